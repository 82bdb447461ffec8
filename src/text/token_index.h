// Hash tables of a vocabulary: text to id, and pair of symbols to merge. Open addressing, linear probing, keyed with a
// number drawn at start, so a hostile vocabulary cannot choose its collisions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

// Text to id over a list of texts that it refers to and that must not change. Of equal texts the first inserted wins;
// an empty text is never found.
class TokenIndex {
 public:
  explicit TokenIndex(const std::vector<std::string>& texts) : texts_(&texts) {}
  // All texts in their order, once.
  void insert_all();
  [[nodiscard]] Token find(std::string_view text) const;
  // Fetches what find() will look at first. A vocabulary's table is larger than caches, so lookups that are known some steps
  // ahead need not wait for memory.
  void prefetch(std::string_view text) const;
  // No text comes twice.
  [[nodiscard]] bool unique() const { return unique_; }
  // The longest text inserted.
  [[nodiscard]] size_t n_bytes_max() const { return n_bytes_max_; }

 private:
  struct Slot {
    uint32_t tag = 0;
    Token id = kNoToken;
  };
  void insert(Token id, uint64_t hash);
  const std::vector<std::string>* texts_;
  std::vector<Slot> slots_;
  size_t n_bytes_max_ = 0;
  bool unique_ = true;
};

// (left, right) to (rank, merged).
class PairTable {
 public:
  struct Entry {
    uint32_t rank = 0;
    int32_t value = -1;  // -1: not there
  };
  // Room for n pairs, once, before the first insert.
  void reserve(size_t n);
  // Fetches what insert() will look at first.
  void prefetch(uint32_t left, uint32_t right) const;
  // The first of equal pairs wins.
  void insert(uint32_t left, uint32_t right, Entry entry);
  [[nodiscard]] Entry find(uint32_t left, uint32_t right) const;

 private:
  struct Slot {
    uint64_t key = 0;
    Entry entry;
  };
  [[nodiscard]] size_t start(uint64_t key) const;
  std::vector<Slot> slots_;
};

}  // namespace hearth
