// Where tokens stood before: from what followed there, guesses at what follows now.
//
// N-grams lead to the places after them (prompt lookup decoding, Saxena 2023); of the newest places the one that most tokens
// before it speak for is taken. Not shared between threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

class DraftIndex {
 public:
  // Keeps the newest `tokens_max` tokens or at least half as many: 16 to 24 bytes for each that is kept.
  explicit DraftIndex(size_t tokens_max) : tokens_max_(tokens_max) {}

  // Cost: two entries of a table for each token.
  void append(std::span<const Token> tokens);

  struct Match {
    int length = 0;  // tokens before the place that the text ends with, at most kMatchMax; 0: there is none
    size_t place = 0;
  };
  static constexpr int kMatchMax = 32;
  // The place before which the end of `text` stands. What the index holds may end with `text` itself.
  [[nodiscard]] Match find(std::span<const Token> text) const;
  // The tokens from the place on, and from the end of what is there on those again: as a text that repeats itself goes on. All of
  // `out` is filled.
  void copy(const Match& match, std::span<Token> out) const;

  [[nodiscard]] size_t size() const { return tokens_.size(); }

 private:
  static constexpr size_t kShort = 2, kLong = 4;  // tokens of an n-gram
  // By the hash of an n-gram the newest place after one, by a place the one before it; 0: none.
  struct Chains {
    size_t gram;
    std::vector<uint32_t> newest, older;
    void add(std::span<const Token> tokens, size_t place);
    [[nodiscard]] size_t slot(const Token* gram_begin) const;
  };
  void rebuild();
  void look(const Chains& chains, std::span<const Token> text, Match& best) const;

  size_t tokens_max_;
  std::vector<Token> tokens_;
  Chains long_{.gram = kLong, .newest = {}, .older = {}}, short_{.gram = kShort, .newest = {}, .older = {}};
};

}  // namespace hearth
