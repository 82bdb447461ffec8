// Sequence state on disk: what a conversation has cost need not be paid again when its pages were needed by others, or after a restart.
//
// One sealed file per state (state_file.h); names are keyed hashes, so neither names nor contents tell of prompts. Least recently
// used files go first when the limit is reached. A state that is lost, damaged or never written, because the disk is full, costs time
// only: its tokens run again. Any thread may call anything here. Reading and writing happen on threads of its own, which take the bytes
// from where they lie and put them there: no state is in memory twice.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "engine/state_file.h"

namespace hearth {

// How many tokens two prompts begin with alike.
int common_prefix(std::span<const Token> a, std::span<const Token> b);

// A state on its way to disk or from there.
class StateTransfer {
 public:
  [[nodiscard]] bool ended() const { return state_.load() != State::kUnderWay; }
  [[nodiscard]] bool succeeded() const { return state_.load() == State::kDone; }  // once it ended
  // Until it has ended, and whoever was to be told has been.
  void wait() const { told_.wait(false); }

 private:
  friend class StateCache;
  enum class State : uint8_t { kUnderWay, kDone, kFailed };
  std::atomic<State> state_{State::kUnderWay};
  std::atomic<bool> told_{false};
};

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
    int length = 0;             // tokens in common
    std::vector<Token> tokens;  // all that the state has
  };
  // The state that has most of the tokens' beginning; length 0 if none has any.
  [[nodiscard]] Found longest_prefix(const StateOwner& owner, std::span<const Token> tokens) const;
  // What it finds changes only when this does.
  [[nodiscard]] uint64_t changes() const { return changes_.load(); }

  // Both begin at once and call `ended` on a thread of the cache, which may only wake somebody. The bytes have to stay as they are, and
  // where they are, until then.
  using Ended = std::function<void()>;
  // Writes a state; fails if it is too large or the disk is full.
  std::shared_ptr<const StateTransfer> keep(StateOwner owner, std::vector<Token> tokens, StateBytes from, Ended ended);
  // Reads one into its place; fails if it is gone or damaged, and then it is deleted.
  std::shared_ptr<const StateTransfer> load(const StateOwner& owner, const std::string& name, StateBytes into,
                                            Ended ended);
  [[nodiscard]] uint64_t bytes() const;
  [[nodiscard]] uint64_t bytes_max() const { return bytes_max_; }
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
    StateBytes bytes;
    std::shared_ptr<StateTransfer> transfer;
    Ended ended;
  };
  struct Reading;
  StateCache(std::filesystem::path folder, const Key& key, uint64_t bytes_max);
  [[nodiscard]] std::filesystem::path path_of(const std::string& name) const;
  void read_folder();
  void write_all(const std::stop_token& stop);
  bool write(const Waiting& waiting);
  void enter(const std::string& name, Entry entry);
  void read_pieces(const std::stop_token& stop, std::span<std::byte> buffer);
  void drop(const std::string& name, const Error& why);
  static void end(StateTransfer& transfer, bool well, const Ended& ended);
  void forget(const std::string& name);
  void shrink(uint64_t bytes);

  const std::filesystem::path folder_;
  const Key key_;
  const uint64_t bytes_max_;
  std::atomic<uint64_t> changes_{1};
  bool disk_fails_ = false;  // the writer's: so that the log says it once
  mutable std::mutex mutex_;
  std::condition_variable_any wake_writer_, wake_readers_;
  std::map<std::string, Entry> entries_;
  uint64_t bytes_ = 0;
  std::deque<Waiting> waiting_;
  std::deque<std::shared_ptr<Reading>> reading_;
  std::vector<std::jthread> readers_;
  std::jthread writer_;
};

}  // namespace hearth
