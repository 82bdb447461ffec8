// Sequence state on disk: what a prompt's beginning cost once need not be paid again after a restart.
//
// One sealed file per state (vault/sealed.h); names are keyed hashes, so neither names nor contents tell of prompts. Least recently
// used files go first when the limit is reached. Any thread may call anything here; writing happens on a thread of its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"
#include "vault/key.h"

namespace hearth {

// What state depends on besides the tokens. States of different owners never meet, not even by their names.
struct StateOwner {
  std::string tenant;
  std::string model;  // digest, KV type and precision
};

// How many tokens two prompts begin with alike.
int common_prefix(std::span<const Token> a, std::span<const Token> b);

class StateCache {
 public:
  // Makes the folder if it is missing; files in it that this key did not seal are deleted. `bytes_max`: of all files together.
  static Result<std::unique_ptr<StateCache>> open(const std::filesystem::path& folder, const Key& key,
                                                  uint64_t bytes_max);
  // Waits until everything handed in is written.
  ~StateCache();
  StateCache(const StateCache&) = delete;
  StateCache& operator=(const StateCache&) = delete;

  struct Found {
    std::string name;
    int length = 0;  // tokens in common
  };
  // The state that has most of the tokens' beginning; length 0 if none has any.
  [[nodiscard]] Found longest_prefix(const StateOwner& owner, std::span<const Token> tokens) const;
  struct Loaded {
    std::vector<Token> tokens;
    std::vector<std::byte> state;  // as SequenceStore::export_state gave it
  };
  // Empty if it is gone or damaged; then it is deleted.
  std::optional<Loaded> load(const StateOwner& owner, const std::string& name);
  // There is one with all of these tokens.
  [[nodiscard]] bool has(const StateOwner& owner, std::span<const Token> tokens) const;
  // Writes it some time soon; ask has() before. If too much waits to be written it is dropped, or with
  // `wait` that is waited for.
  void keep(StateOwner owner, std::vector<Token> tokens, std::vector<std::byte> state, bool wait = false);
  [[nodiscard]] uint64_t bytes() const;
  [[nodiscard]] int count() const;

 private:
  struct Entry {
    StateOwner owner;
    std::vector<Token> tokens;
    uint64_t bytes = 0;
    std::filesystem::file_time_type last_use;
  };
  struct Waiting {
    StateOwner owner;
    std::vector<Token> tokens;
    std::vector<std::byte> state;
  };
  StateCache(std::filesystem::path folder, const Key& key, uint64_t bytes_max);
  void read_folder();
  Result<Entry> read_entry(const std::filesystem::path& path) const;
  void write_all(std::stop_token stop);
  void write(const Waiting& waiting);
  void forget(const std::string& name);
  void shrink(uint64_t bytes);

  const std::filesystem::path folder_;
  const Key key_;
  const uint64_t bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_, written_;
  std::map<std::string, Entry> entries_;
  uint64_t bytes_ = 0;
  std::deque<Waiting> waiting_;
  std::jthread writer_;
};

}  // namespace hearth
