#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <vector>

#include "text/utf8.h"

namespace hearth {
namespace {

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

CharClass look_up(char32_t c) {
  using namespace char_class;
  if (is_white_space(c)) return kSpace;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kUpper;
    case UTF8PROC_CATEGORY_LL:
      return kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kOtherLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    default:
      return kOther;
  }
}

constexpr size_t kTableSize = 0x800;  // all characters of one or two bytes
const std::array<CharClass, kTableSize>& class_table() {
  static const std::array<CharClass, kTableSize> table = [] {
    std::array<CharClass, kTableSize> t{};
    for (size_t c = 0; c < kTableSize; ++c) t[c] = look_up(static_cast<char32_t>(c));
    return t;
  }();
  return table;
}

int combining_class(char32_t c) { return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class; }

// The decomposition with its combining marks in canonical order (stable, by class). utf8proc orders them by insertion,
// which is quadratic in a run of marks unless they are in order already.
std::string ordered_decomposition(std::string_view text) {
  std::u32string decomposed;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    append_nfd(c.code_point, decomposed);
    at += c.n_bytes;
  }
  std::vector<uint64_t> keys;
  for (auto begin = decomposed.begin(); begin != decomposed.end();) {
    const auto is_mark = [](char32_t c) { return combining_class(c) > 0; };
    begin = std::find_if(begin, decomposed.end(), is_mark);
    const auto end = std::find_if_not(begin, decomposed.end(), is_mark);
    keys.clear();
    for (auto mark = begin; mark != end; ++mark) {  // class, place, character: sorting these is stable
      keys.push_back(static_cast<uint64_t>(combining_class(*mark)) << 56 | static_cast<uint64_t>(keys.size()) << 21 |
                     *mark);
    }
    std::sort(keys.begin(), keys.end());
    std::transform(keys.begin(), keys.end(), begin, [](uint64_t key) { return static_cast<char32_t>(key & 0x1FFFFF); });
    begin = end;
  }
  std::string out;
  for (const char32_t c : decomposed) append_utf8(c, out);
  return out;
}

// Composes valid UTF-8; n_marks is its longest run of combining marks.
void append_composed(std::string_view text, size_t n_marks, std::string& out) {
  constexpr size_t kManyMarks = 32;
  const std::string ordered = n_marks > kManyMarks ? ordered_decomposition(text) : std::string();
  if (n_marks > kManyMarks) text = ordered;
  utf8proc_uint8_t* raw = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const utf8proc_ssize_t n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                          static_cast<utf8proc_ssize_t>(text.size()), &raw, options);
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(raw, std::free);
  if (n < 0) {
    out += text;
  } else {
    out.append(reinterpret_cast<const char*>(raw), static_cast<size_t>(n));
  }
}

}  // namespace

CharClass classify(char32_t c) { return c < kTableSize ? class_table()[c] : look_up(c); }

bool is_removed_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const auto g = category(c);
  return g == UTF8PROC_CATEGORY_CC || g == UTF8PROC_CATEGORY_CF || g == UTF8PROC_CATEGORY_CO ||
         g == UTF8PROC_CATEGORY_CS;
}

bool is_nonspacing_mark(char32_t c) { return category(c) == UTF8PROC_CATEGORY_MN; }

char32_t to_lower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))); }

void append_nfd(char32_t c, std::u32string& out) {
  std::array<utf8proc_int32_t, 32> parts{};  // the longest canonical decomposition has 4
  int last_boundary = 0;
  const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                                         UTF8PROC_DECOMPOSE, &last_boundary);
  if (n <= 0 || static_cast<size_t>(n) > parts.size()) {
    out += c;
    return;
  }
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) out += static_cast<char32_t>(parts[i]);
}

std::string to_nfc(std::string_view text) {
  constexpr char32_t kFirstUnstable = 0x300;  // below, every character is its own composition
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  size_t at = 0;
  size_t n_marks = 0;
  size_t n_marks_max = 0;
  bool unstable = false;
  const auto flush = [&] {
    const std::string_view part = text.substr(begin, at - begin);
    unstable ? append_composed(part, n_marks_max, out) : void(out += part);
    begin = at;
    n_marks = n_marks_max = 0;
    unstable = false;
  };
  while (at < text.size()) {
    const DecodedChar c = decode_utf8(text, at);
    if (!c.valid) {
      flush();
      out += text[at++];
      begin = at;
      continue;
    }
    n_marks = c.code_point >= kFirstUnstable && combining_class(c.code_point) > 0 ? n_marks + 1 : 0;
    n_marks_max = std::max(n_marks_max, n_marks);
    unstable = unstable || c.code_point >= kFirstUnstable;
    at += c.n_bytes;
  }
  flush();
  return out;
}

}  // namespace hearth
