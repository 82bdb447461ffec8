// Splits template source into tokens, with Jinja's whitespace control: '-' and '+' at a tag's ends, and as if
// trim_blocks and lstrip_blocks were set (a newline after a block tag and blanks before one at the start of a line are
// not output).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::jinja {

enum class TokenKind : uint8_t {
  kData,  // text between tags
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,  // text holds the decoded value
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  uint32_t line;
  std::string text;

  [[nodiscard]] bool is_operator(std::string_view op) const;
  [[nodiscard]] bool is_name(std::string_view name) const;
};

// All tokens, the last one kEnd. kMalformed with the line for what no Jinja template may contain.
// Cost: linear in the source. Line ends become '\n', and one at the very end is dropped.
Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace hearth::jinja
