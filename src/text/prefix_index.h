// All tokens that a text begins with, found by narrowing a sorted list byte by byte.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace hearth {

class PrefixIndex {
 public:
  // `ids` of `texts`, which must not change afterwards. Of equal texts the lowest id counts, empty ones are left out.
  void build(const std::vector<std::string>& texts, std::vector<Token> ids);

  // found(n_bytes, token) for every token that text begins with, shortest first. Cost: at most the longest token times
  // the logarithm of the number of tokens.
  template <typename Found>
  void for_each_prefix(std::string_view text, const Found& found) const {
    if (text.empty() || sorted_.empty()) return;
    Range range{first_byte_[static_cast<uint8_t>(text[0])], first_byte_[static_cast<uint8_t>(text[0]) + 1u]};
    for (size_t depth = 1; range.begin < range.end; ++depth) {
      const Token token = sorted_[range.begin];
      if (text_of(token).size() == depth) {
        found(depth, token);
        ++range.begin;
      }
      if (depth == text.size()) return;
      range = narrow(range, depth, static_cast<uint8_t>(text[depth]));
    }
  }

 private:
  struct Range {
    uint32_t begin, end;
  };
  [[nodiscard]] const std::string& text_of(Token token) const { return (*texts_)[static_cast<size_t>(token)]; }
  // Of the texts of a range, all longer than depth, those with this byte there.
  [[nodiscard]] Range narrow(Range range, size_t depth, uint8_t byte) const;

  const std::vector<std::string>* texts_ = nullptr;
  std::vector<Token> sorted_;
  std::array<uint32_t, 257> first_byte_{};
};

}  // namespace hearth
