// What the Unicode database says about a character, as far as tokenizers ask. The only door to utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

// Classes of characters as bits; every code point has exactly one.
using CharClass = uint16_t;
namespace char_class {
inline constexpr CharClass kUpper = 1;         // Lu, Lt
inline constexpr CharClass kLower = 2;         // Ll
inline constexpr CharClass kOtherLetter = 4;   // Lm, Lo
inline constexpr CharClass kMark = 8;          // Mn, Mc, Me
inline constexpr CharClass kNumber = 16;       // Nd, Nl, No
inline constexpr CharClass kSpace = 32;        // White_Space, which holds all of Z and some of Cc
inline constexpr CharClass kPunctuation = 64;  // P*
inline constexpr CharClass kSymbol = 128;      // S*, and bytes that are no character
inline constexpr CharClass kOther = 256;       // controls, formats, private and unassigned
inline constexpr CharClass kLetter = kUpper | kLower | kOtherLetter;
}  // namespace char_class

[[nodiscard]] CharClass classify(char32_t code_point);
// Cc, Cf, Co, but not tab, line feed and carriage return: what BERT removes.
[[nodiscard]] bool is_removed_control(char32_t code_point);
// Mn: an accent that BERT strips.
[[nodiscard]] bool is_nonspacing_mark(char32_t code_point);

// Canonical composition (NFC). Bytes that are no UTF-8 stay as they are. Linear: runs of more than 64 combining marks
// are composed 64 at a time.
[[nodiscard]] std::string to_nfc(std::string_view text);
// The canonical decomposition of one character, appended.
void append_nfd(char32_t code_point, std::u32string& out);
[[nodiscard]] char32_t to_lower(char32_t code_point);

}  // namespace hearth
