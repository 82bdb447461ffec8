// Text as Python sees it: code points in UTF-8, escapes, letter case, numbers. A byte that is not UTF-8 counts as one
// code point.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::jinja {

// The code point at `at`, which moves behind it. A byte that starts no valid sequence is returned as 0xDC00 + byte.
char32_t next_code_point(std::string_view text, size_t& at);
void append_code_point(std::string& text, char32_t code_point);
[[nodiscard]] int64_t code_points(std::string_view text);
// Byte offsets of every code point and of the end.
[[nodiscard]] std::vector<size_t> code_point_offsets(std::string_view text);
[[nodiscard]] bool is_ascii(std::string_view text);

[[nodiscard]] bool is_whitespace(char32_t code_point);  // str.isspace
[[nodiscard]] bool is_letter(char32_t code_point);      // str.isalpha
[[nodiscard]] bool is_decimal(char32_t code_point);     // str.isdecimal
[[nodiscard]] bool is_letter_or_digit(char32_t code_point);
// str.strip: whitespace, or any code point of `characters` if not null.
[[nodiscard]] std::string_view stripped(std::string_view text, const std::string_view* characters, bool left,
                                        bool right);

[[nodiscard]] std::string upper(std::string_view text);
[[nodiscard]] std::string lower(std::string_view text);
[[nodiscard]] std::string capitalized(std::string_view text);
// str.title (a word starts after anything but a letter), and Jinja's title filter (after blanks, '-' and opening
// brackets).
[[nodiscard]] std::string titled(std::string_view text);
[[nodiscard]] std::string titled_words(std::string_view text);

// Every occurrence, at most `count` if not negative. An empty `from` matches between code points.
[[nodiscard]] std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count);

// The value of a string literal: Python's escapes; an unknown one stays as it is.
[[nodiscard]] std::string unescaped(std::string_view literal);
// repr(): quoted and escaped as Python does.
void append_repr(std::string& out, std::string_view text);
// As json.dumps(ensure_ascii=False) quotes it.
void append_json(std::string& out, std::string_view text);
// repr() of a float: the shortest digits that read back the same.
[[nodiscard]] std::string float_repr(double value);

}  // namespace hearth::jinja
