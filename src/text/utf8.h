// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct DecodedChar {
  char32_t code_point;  // kReplacementCharacter if the bytes are no character
  uint8_t n_bytes;      // 1 to 4; 1 for a byte that is no character
  bool valid;
};
// The character at `text[at]`; `at` must be inside the text.
DecodedChar decode_utf8(std::string_view text, size_t at);

void append_utf8(char32_t code_point, std::string& out);
[[nodiscard]] bool is_utf8(std::string_view text);

// How many bytes at the end of `text` are the beginning of a character that more bytes could still complete (0 to 3).
[[nodiscard]] size_t incomplete_utf8_tail(std::string_view text);

// Every byte that is no part of a character becomes U+FFFD (one per maximal broken sequence, as Unicode 15 section 3.9
// recommends).
[[nodiscard]] std::string with_replacement(std::string_view text);

}  // namespace hearth
