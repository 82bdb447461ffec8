#include "text/utf8.h"

namespace hearth {
namespace {

// What the first byte promises: length, the range of the second byte (Unicode table 3-7), and its payload bits.
struct Lead {
  uint8_t n_bytes;
  uint8_t second_min, second_max;
  uint8_t payload;
};
Lead lead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0, byte};
  if (byte < 0xC2) return {0, 0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF, static_cast<uint8_t>(byte & 0x1F)};
  if (byte < 0xF0) {
    const uint8_t low = byte == 0xE0 ? 0xA0 : 0x80;
    const uint8_t high = byte == 0xED ? 0x9F : 0xBF;
    return {3, low, high, static_cast<uint8_t>(byte & 0x0F)};
  }
  if (byte < 0xF5) {
    const uint8_t low = byte == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = byte == 0xF4 ? 0x8F : 0xBF;
    return {4, low, high, static_cast<uint8_t>(byte & 0x07)};
  }
  return {0, 0, 0, 0};
}

// How many bytes from `at` on agree with the form the first byte promises (at least 1).
size_t agreeing_bytes(std::string_view text, size_t at, const Lead& form) {
  size_t n = 1;
  for (; n < form.n_bytes && at + n < text.size(); ++n) {
    const auto byte = static_cast<uint8_t>(text[at + n]);
    const uint8_t low = n == 1 ? form.second_min : 0x80;
    const uint8_t high = n == 1 ? form.second_max : 0xBF;
    if (byte < low || byte > high) break;
  }
  return n;
}

}  // namespace

DecodedChar decode_utf8(std::string_view text, size_t at) {
  const Lead form = lead(static_cast<uint8_t>(text[at]));
  if (form.n_bytes == 1) return {form.payload, 1, true};
  if (form.n_bytes == 0 || agreeing_bytes(text, at, form) < form.n_bytes) return {kReplacementCharacter, 1, false};
  char32_t code_point = form.payload;
  for (size_t i = 1; i < form.n_bytes; ++i) code_point = code_point << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3F);
  return {code_point, form.n_bytes, true};
}

void append_utf8(char32_t c, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | ((c >> 18) & 0x07));
    tail(12), tail(6), tail(0);
  }
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    if (!c.valid) return false;
    at += c.n_bytes;
  }
  return true;
}

size_t incomplete_utf8_tail(std::string_view text) {
  for (size_t n = 1; n <= 3 && n <= text.size(); ++n) {
    const size_t at = text.size() - n;
    const Lead form = lead(static_cast<uint8_t>(text[at]));
    if (form.n_bytes > n && agreeing_bytes(text, at, form) == n) return n;
    if ((static_cast<uint8_t>(text[at]) & 0xC0) != 0x80) return 0;
  }
  return 0;
}

std::string with_replacement(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    if (c.valid) {
      out += text.substr(at, c.n_bytes);
      at += c.n_bytes;
    } else {
      out += kReplacementUtf8;
      at += agreeing_bytes(text, at, lead(static_cast<uint8_t>(text[at])));
    }
  }
  return out;
}

}  // namespace hearth
