// Finds the texts of special tokens in a text: leftmost first, the longest of those that begin at one place.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "text/token_index.h"
#include "text/tokenizer.h"

namespace hearth {

// An Aho-Corasick automaton (Aho and Corasick 1975) over the reversed texts, run from the end of the text to its start:
// at each place it then knows the longest token that begins there. Linear in the text, whatever the tokens.
class SpecialTokens {
 public:
  struct Match {
    size_t begin;
    Token token;
  };
  // Texts of `ids`, which must be ids of `texts`; empty texts are left out. Cost: the sum of their lengths.
  void build(const std::vector<std::string>& texts, const std::vector<Token>& ids);
  // Matches that do not overlap, from left to right.
  [[nodiscard]] std::vector<Match> find_all(std::string_view text) const;

 private:
  [[nodiscard]] int32_t step(int32_t node, uint8_t byte) const;

  struct Node {
    int32_t failure = 0;
    Token longest = kNoToken;  // of the tokens that end here
  };
  const std::vector<std::string>* texts_ = nullptr;
  std::vector<Node> nodes_;
  PairTable children_;  // (node, byte) to node
  std::vector<int32_t> root_;
};

}  // namespace hearth
