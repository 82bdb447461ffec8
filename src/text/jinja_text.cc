#include "text/jinja_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace hearth::jinja {
namespace {
constexpr char32_t kStrayByte = 0xDC00;

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_cased(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

char32_t to_upper(char32_t c) { return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))); }
char32_t to_lower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))); }

void append_upper(std::string& out, char32_t c) {
  if (c == 0xDF) {
    out += "SS";  // the one full mapping that real text meets
  } else {
    append_code_point(out, to_upper(c));
  }
}

// Not printable in Python's sense: escaped by repr().
bool is_printable(char32_t c) {
  if (c >= kStrayByte && c <= kStrayByte + 0xFF) return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}
}  // namespace

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const int size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (size == 1) return static_cast<char32_t>(static_cast<unsigned char>(text[at++]));
  char32_t c = size == 2 ? first & 0x1Fu : size == 3 ? first & 0x0Fu : first & 0x07u;
  bool valid = size != 0 && at + static_cast<size_t>(size) <= text.size();
  for (int i = 1; valid && i < size; ++i) {
    valid = is_continuation(text[at + static_cast<size_t>(i)]);
    c = c << 6 | (static_cast<unsigned char>(text[at + static_cast<size_t>(i)]) & 0x3Fu);
  }
  valid = valid && !(size == 3 && c < 0x800) && !(size == 4 && (c < 0x10000 || c > 0x10FFFF)) &&
          !(c >= 0xD800 && c < 0xE000);
  if (!valid) {
    ++at;
    return kStrayByte + first;
  }
  at += static_cast<size_t>(size);
  return c;
}

void append_code_point(std::string& text, char32_t c) {
  if (c >= kStrayByte + 0x80 && c <= kStrayByte + 0xFF) {
    text += static_cast<char>(c - kStrayByte);
  } else if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | c >> 6);
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | c >> 12);
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | c >> 18);
    text += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int64_t code_points(std::string_view text) {
  if (is_ascii(text)) return static_cast<int64_t>(text.size());
  int64_t n = 0;
  for (size_t at = 0; at < text.size(); ++n) next_code_point(text, at);
  return n;
}

std::vector<size_t> code_point_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); next_code_point(text, at)) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_letter(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return is_cased(c) || category == UTF8PROC_CATEGORY_LM || category == UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND; }

bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_decimal(c); }

std::string_view stripped(std::string_view text, const std::string_view* characters, bool left, bool right) {
  std::u32string set;
  if (characters != nullptr)
    for (size_t at = 0; at < characters->size();) set += next_code_point(*characters, at);
  auto strips = [&](char32_t c) { return characters != nullptr ? set.find(c) != set.npos : is_whitespace(c); };
  while (left && !text.empty()) {
    size_t at = 0;
    if (!strips(next_code_point(text, at))) break;
    text.remove_prefix(at);
  }
  while (right && !text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && text.size() - last < 4 && is_continuation(text[last])) --last;
    size_t at = last;
    char32_t c = next_code_point(text, at);
    if (at != text.size()) {
      last = text.size() - 1;
      at = last;
      c = next_code_point(text, at);
    }
    if (!strips(c)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_upper(out, next_code_point(text, at));
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_code_point(out, to_lower(next_code_point(text, at)));
  return out;
}

std::string capitalized(std::string_view text) {
  std::string out;
  size_t at = 0;
  if (!text.empty()) append_upper(out, next_code_point(text, at));
  return out + lower(text.substr(at));
}

std::string titled(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    append_code_point(out, in_word ? to_lower(c) : to_upper(c));
    in_word = is_cased(c);
  }
  return out;
}

std::string titled_words(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    const bool separates = is_whitespace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    append_code_point(out, in_word ? to_lower(c) : to_upper(c));
    in_word = !separates;
  }
  return out;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  size_t at = 0;
  int64_t done = 0;
  if (from.empty()) {
    for (; at < text.size() && (count < 0 || done < count); ++done) {
      out += to;
      const size_t begin = at;
      next_code_point(text, at);
      out += text.substr(begin, at - begin);
    }
    if (at == text.size() && (count < 0 || done < count)) out += to;
    return out.append(text.substr(at));
  }
  while (count < 0 || done < count) {
    const size_t hit = text.find(from, at);
    if (hit == std::string_view::npos) break;
    out.append(text.substr(at, hit - at)).append(to);
    at = hit + from.size();
    ++done;
  }
  return out.append(text.substr(at));
}

std::string unescaped(std::string_view literal) {
  static constexpr std::string_view kLetters = "abfnrtv\\'\"";
  static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  std::string out;
  out.reserve(literal.size());
  for (size_t i = 0; i < literal.size();) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      out += literal[i++];
      continue;
    }
    const char c = literal[i + 1];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      out += kMeanings[letter];
      i += 2;
    } else if (c == '\n') {
      i += 2;
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      size_t n = 0;
      for (; n < 3 && i + 1 + n < literal.size() && literal[i + 1 + n] >= '0' && literal[i + 1 + n] <= '7'; ++n)
        value = value * 8 + static_cast<char32_t>(literal[i + 1 + n] - '0');
      append_code_point(out, value);
      i += 1 + n;
    } else if (digits != 0 && i + 2 + digits <= literal.size() &&
               std::all_of(literal.begin() + i + 2, literal.begin() + i + 2 + digits,
                           [](char h) { return hex_value(h) >= 0; })) {
      char32_t value = 0;
      for (size_t n = 0; n < digits; ++n) value = value * 16 + static_cast<char32_t>(hex_value(literal[i + 2 + n]));
      append_code_point(out, value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) ? 0xFFFD : value);
      i += 2 + digits;
    } else {
      out += literal[i++];
    }
  }
  return out;
}

void append_repr(std::string& out, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      append_code_point(out, c);
    } else {
      const auto value = static_cast<uint32_t>(c);
      out += value < 0x100     ? fmt::format("\\x{:02x}", value)
             : value < 0x10000 ? fmt::format("\\u{:04x}", value)
                               : fmt::format("\\U{:08x}", value);
    }
  }
  out += quote;
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 64> buffer{};
  const auto scientific =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(scientific.ptr - buffer.data()));
  const size_t e = text.find('e');
  const size_t exponent_begin = text[e + 1] == '+' ? e + 2 : e + 1;
  int exponent = 0;
  std::from_chars(text.data() + exponent_begin, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string out(buffer.data(), fixed.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace hearth::jinja
