#include "text/grammar_regex.h"

#include <algorithm>

#include "base/limits.h"
#include "text/utf8.h"

namespace hearth {
namespace {

using Part = GrammarBuilder::Part;
using Item = GroupStack::Item;

const CharSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

// What \d, \w and \s mean everywhere, or, if `widest`, what they mean anywhere: engines differ on other scripts, and what is
// negated has to exclude all of it.
CharSet class_set(char name, bool widest) {
  switch (name) {
    case 'd':
      return widest ? CharSet{{'0', '9'}, {0x660, kLastCodePoint}} : CharSet{{'0', '9'}};
    case 'w': {
      CharSet set = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
      if (widest) set.push_back({0x80, kLastCodePoint});
      return set;
    }
    case 's':
      if (!widest) return {{'\t', '\r'}, {' ', ' '}};
      return {{'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
              {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
              {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    default:
      return complement_of(class_set(static_cast<char>(name | 0x20), !widest));
  }
}

class RegexParser {
 public:
  RegexParser(GrammarBuilder& builder, std::string_view pattern, const PatternOptions& options)
      : builder_(builder), pattern_(pattern), options_(options), groups_(builder) {}

  Result<Part> parse() {
    if (pattern_.size() > limits::kGrammarBytes) {
      return fail(Code::kLimit, "a pattern of {} bytes, the limit is {}", pattern_.size(), limits::kGrammarBytes);
    }
    if (!is_utf8(pattern_)) return fail(Code::kInvalidArgument, "the pattern is not UTF-8");
    begin_alternative();
    while (at_ < pattern_.size()) {
      if (builder_.too_large()) {
        return fail(Code::kLimit, "the pattern needs more than {} states", limits::kGrammarStates);
      }
      TRY(parse_next());
    }
    if (groups_.depth() > 0) return wrong("a group is not closed");
    end_alternative();
    TRY(fit_length());
    return groups_.finish().part;
  }

 private:
  template <class... Args>
  std::unexpected<Error> wrong(fmt::format_string<Args...> what, Args&&... args) const {
    return fail(Code::kInvalidArgument, "pattern, offset {}: {}", at_, fmt::format(what, std::forward<Args>(args)...));
  }
  [[nodiscard]] bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }

  void append_set(const CharSet& set) {
    const Part part = options_.in_json_string ? json_string_char(builder_, set) : builder_.one_of(set);
    groups_.append({part, 1, 1, 1, 1});
    repeatable_ = true;
  }
  void append_anything() {
    append_set({{0, kLastCodePoint}});
    groups_.repeat_last(0, kNoBound);
    repeatable_ = false;
  }
  // An anchor is read only where an outermost alternative begins or ends; without it, anything may stand there.
  void begin_alternative() {
    anchored_ = next_is("^");
    if (anchored_) ++at_;
    if (!anchored_ && options_.in_json_string) append_anything();
    repeatable_ = false;
    closed_ = false;
  }
  void end_alternative() {
    if (!closed_ && options_.in_json_string) append_anything();
  }

  Result<void> parse_next() {
    const char c = pattern_[at_];
    if (closed_ && c != '|') return wrong("'$' is supported only at the end of the pattern or of an alternative");
    switch (c) {
      case '|':
        ++at_;
        if (groups_.depth() > 0) {
          groups_.alternative();
          repeatable_ = false;
        } else {
          end_alternative();
          groups_.alternative();
          begin_alternative();
        }
        return {};
      case '(':
        return open_group();
      case ')':
        if (!groups_.close()) return wrong("a group is closed that was not opened");
        ++at_;
        repeatable_ = true;
        return {};
      case '*':
      case '+':
      case '?':
      case '{':
        return parse_quantifier();
      case '$':
        if (groups_.depth() > 0) return wrong("'$' inside a group is not supported");
        ++at_;
        closed_ = true;
        return {};
      case '^':
        return wrong("'^' is supported only at the beginning of the pattern or of an alternative");
      case '.':
        ++at_;
        append_set(complement_of(kLineEnds));
        return {};
      case '[':
        return parse_set();
      default: {
        CharSet set;
        TRY(read_member(false, set));
        append_set(set);
        return {};
      }
    }
  }

  Result<void> open_group() {
    ++at_;
    if (next_is("?:")) {
      at_ += 2;
    } else if (next_is("?<") && !next_is("?<=") && !next_is("?<!")) {
      const size_t end = pattern_.find('>', at_);
      if (end == std::string_view::npos) return wrong("the name of a group is not closed");
      at_ = end + 1;
    } else if (next_is("?")) {
      return wrong("lookaround, flags and other groups with (? are not supported");
    }
    repeatable_ = false;
    return groups_.open();
  }

  Result<void> parse_quantifier() {
    const char c = pattern_[at_];
    if (!repeatable_ || groups_.last() == nullptr) return wrong("'{}' has nothing to repeat", c);
    ++at_;
    Repetition repetition{c == '+' ? 1u : 0u, c == '?' ? 1u : kNoBound, false};
    if (c == '{') {
      const auto found = read_repetition(pattern_, at_);
      if (!found) return wrong("expected {{m}}, {{m,}} or {{m,n}}; a brace itself is written \\{{");
      if (found->too_large) return wrong("a repetition needs m <= n <= {}", limits::kGrammarRepetition);
      repetition = *found;
    }
    groups_.repeat_last(repetition.min, repetition.max);
    repeatable_ = false;
    if (next_is("?")) ++at_;  // lazy: the same texts match
    return {};
  }

  Result<void> parse_set() {
    ++at_;
    const bool negated = next_is("^");
    if (negated) ++at_;
    if (next_is("]")) return wrong("a set without characters");
    CharSet set;
    while (!next_is("]")) {
      CharSet low;
      TRY(read_member(negated, low));
      const bool is_range = next_is("-") && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']' && is_one(low);
      if (is_range) {
        ++at_;
        CharSet high;
        TRY(read_member(negated, high));
        if (!is_one(high)) return wrong("a range ends with a class of characters");
        if (low[0].low > high[0].low) return wrong("a range of characters runs backwards");
        low[0].high = high[0].low;
      }
      set.insert(set.end(), low.begin(), low.end());
    }
    ++at_;
    append_set(negated ? complement_of(set) : set);
    return {};
  }
  static bool is_one(const CharSet& set) { return set.size() == 1 && set[0].low == set[0].high; }

  // A character or class of characters, in or outside of brackets.
  Result<void> read_member(bool negated, CharSet& out) {
    if (at_ >= pattern_.size()) return wrong("a set of characters is not closed");
    if (pattern_[at_] != '\\') {
      const DecodedChar c = decode_utf8(pattern_, at_);
      at_ += c.n_bytes;
      out.push_back({c.code_point, c.code_point});
      return {};
    }
    if (++at_ >= pattern_.size()) return wrong("a backslash at the end");
    const char name = pattern_[at_++];
    if (std::string_view("dwsDWS").find(name) != std::string_view::npos) {
      out = class_set(name, negated);
      return {};
    }
    const char32_t value = TRY(read_escape(name));
    out.push_back({value, value});
    return {};
  }

  Result<char32_t> read_escape(char name) {
    constexpr std::string_view kNames = "nrtfv0";
    constexpr std::string_view kValues{"\n\r\t\f\v\0", 6};
    if (const size_t at = kNames.find(name); at != std::string_view::npos) return static_cast<char32_t>(kValues[at]);
    std::optional<char32_t> value;
    if (name == 'x') value = read_hex(pattern_, at_, 2);
    if (name == 'u') value = read_hex(pattern_, at_, 4);
    const bool is_word = (name >= '0' && name <= '9') || ((name | 0x20) >= 'a' && (name | 0x20) <= 'z');
    if (!is_word && static_cast<uint8_t>(name) < 0x80) value = static_cast<char32_t>(name);
    if (!value || (*value >= 0xD800 && *value <= 0xDFFF)) {
      return wrong("\\{} is not supported (no word boundaries, back references, properties, surrogates)",
                   is_word ? name : '?');
    }
    return *value;
  }

  // Narrows the repetitions of single characters until every text has a permitted length.
  Result<void> fit_length() {
    const uint64_t min = options_.chars_min;
    const uint64_t max = options_.chars_max;
    if (min == 0 && max == kNoBound) return {};
    std::vector<Item>* const items = groups_.only_sequence();
    if (items == nullptr) return wrong("length limits beside a pattern with alternatives are not supported");
    const auto adjustable = [](const Item& item) { return item.chars_min == 1 && item.chars_max == 1; };
    uint64_t least = 0;
    uint64_t most = 0;
    uint64_t n_adjustable = 0;
    for (const Item& item : *items) {
      least += uint64_t{item.min} * item.chars_min;
      const bool varies = adjustable(item) && item.max > item.min;
      n_adjustable += varies ? 1 : 0;
      most = std::min<uint64_t>(kNoBound, most + uint64_t{item.max} * item.chars_max);
    }
    for (Item& item : *items) {
      if (least >= min || !adjustable(item)) continue;
      const auto more = static_cast<uint32_t>(std::min<uint64_t>(min - least, item.max - item.min));
      item.min += more;
      least += more;
    }
    if (most > max && n_adjustable > 0 && least <= max) {
      const uint64_t share = (max - least) / n_adjustable;
      uint64_t rest = (max - least) % n_adjustable;
      most = 0;
      for (Item& item : *items) {
        if (adjustable(item) && item.max > item.min) {
          item.max = static_cast<uint32_t>(std::min<uint64_t>(item.max, item.min + share + rest));
          rest = 0;
        }
        most = std::min<uint64_t>(kNoBound, most + uint64_t{item.max} * item.chars_max);
      }
    }
    if (least < min || most > max) return wrong("the pattern cannot be held to the length limits beside it");
    return {};
  }

  GrammarBuilder& builder_;
  std::string_view pattern_;
  PatternOptions options_;
  GroupStack groups_;
  size_t at_ = 0;
  bool anchored_ = false;
  bool closed_ = false;      // after an outermost '$'
  bool repeatable_ = false;  // a quantifier may follow
};

}  // namespace

GrammarBuilder::Part json_string_char(GrammarBuilder& builder, const CharSet& set) {
  CharSet raw;
  std::vector<Part> parts;
  const auto escaped = [&](std::string_view text) { parts.push_back(builder.literal(text)); };
  for (const CharRange& range : normal_set(set)) {
    for (char32_t c = range.low; c <= std::min<char32_t>(range.high, 0x1F); ++c) {
      constexpr std::string_view kShort = "btn?fr";  // U+0008 to U+000D
      const bool is_short = c >= 8 && c <= 13 && c != 11;
      escaped(is_short ? fmt::format("\\{}", kShort[c - 8]) : fmt::format("\\u{:04x}", static_cast<uint32_t>(c)));
    }
    for (const char c : {'"', '\\'}) {
      const auto code_point = static_cast<char32_t>(c);
      if (range.low <= code_point && code_point <= range.high) escaped(fmt::format("\\{}", c));
    }
    const char32_t low = std::max<char32_t>(range.low, 0x20);
    if (low < '"') raw.push_back({low, std::min<char32_t>(range.high, '"' - 1)});
    raw.push_back({std::max<char32_t>(low, '"' + 1), std::min<char32_t>(range.high, '\\' - 1)});
    raw.push_back({std::max<char32_t>(low, '\\' + 1), range.high});
  }
  parts.push_back(builder.one_of(raw));
  return parts.size() == 1 ? parts[0] : builder.either(parts);
}

Result<GrammarBuilder::Part> pattern_part(GrammarBuilder& builder, std::string_view pattern,
                                          const PatternOptions& options) {
  return RegexParser(builder, pattern, options).parse();
}

Result<Grammar::Shared> Grammar::from_regex(std::string_view pattern) {
  GrammarBuilder builder;
  const Part part = TRY(pattern_part(builder, pattern, {}));
  const GrammarBuilder::Rule root = builder.declare();
  builder.define(root, part);
  return builder.finish(root);
}

}  // namespace hearth
