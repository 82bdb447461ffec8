// A sequence's state in a file: sealed, in pieces that several threads take straight from its pages or put there.
//
// Format: "HSTATE01"; how long the sealed index is (8 bytes, little endian); the index, sealed; the header of the state's seal; from the next
// multiple of 4096 on the state's segments with their tags, 256 KiB each together, the last one less. Index: tenant, model, tokens and note,
// each behind its length (8 bytes), then the length of the state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/direct_file.h"
#include "base/process_memory.h"
#include "base/result.h"
#include "model/sequence.h"
#include "text/tokenizer.h"
#include "vault/key.h"
#include "vault/sealed.h"

namespace hearth {

// What state depends on besides the tokens. States of different owners never meet, not even by their names.
struct StateOwner {
  std::string tenant;
  std::string model;  // digest, KV type and precision
  bool operator==(const StateOwner&) const = default;
};

struct StateIndex {
  StateOwner owner;
  std::vector<Token> tokens;  // as many as the state has positions
  std::string note{};         // whatever whoever wrote it wants to know again
  uint64_t state_bytes = 0;
};
// kMalformed. For what was unsealed.
Result<StateIndex> parse_state_index(std::span<const std::byte> bytes);

// A keyed hash of owner and tokens: a file name that says nothing.
std::string state_name(const Key& key, const StateOwner& owner, std::span<const Token> tokens);

class StateFile {
 public:
  static constexpr size_t kPieceBytes = 256u << 10;

  // Reads the index. kMalformed if it is no such file or cut short, kCorrupt if the index is damaged or of another key.
  static Result<StateFile> open(const std::filesystem::path& path, const Key& key);
  // Writes the whole of it beside `path`, then puts it there; gives its bytes. kIo, saying so, if the disk is full.
  static Result<uint64_t> write(const std::filesystem::path& path, const Key& key, StateIndex index,
                                const StateBytes& from);

  [[nodiscard]] const StateIndex& index() const { return index_; }
  [[nodiscard]] uint64_t bytes() const { return file_.bytes(); }
  [[nodiscard]] uint32_t pieces() const;
  // Any thread. `buffer`: kPieceBytes at a multiple of a page. kCorrupt if the piece is damaged, kMalformed if it is of another state.
  Result<void> read_piece(uint32_t piece, std::span<std::byte> buffer, const StateBytes& into) const;
  // All of them, one after the other.
  Result<void> read_all(const StateBytes& into) const;

 private:
  StateFile(DirectFile file, StateIndex index, Sealer sealer, uint64_t begin)
      : file_(std::move(file)), index_(std::move(index)), sealer_(std::move(sealer)), begin_(begin) {}

  DirectFile file_;
  StateIndex index_;
  Sealer sealer_;
  uint64_t begin_;  // of the first segment
};

}  // namespace hearth
