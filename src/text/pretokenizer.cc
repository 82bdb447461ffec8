#include "text/pretokenizer.h"

#include "text/utf8.h"

namespace hearth {
namespace {

using namespace char_class;

struct Char {
  char32_t value = 0;
  CharClass cls = 0;  // 0: the end of the text, in no class
  uint8_t n_bytes = 0;
};

bool is_ascii_letter(const Char& c) { return (c.value | 32) >= 'a' && (c.value | 32) <= 'z'; }
bool is_newline(const Char& c) { return c.value == '\r' || c.value == '\n'; }

constexpr size_t kNoMatch = static_cast<size_t>(-1);

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  [[nodiscard]] Char at(size_t pos) const {
    if (pos >= text_.size()) return {};
    const DecodedChar c = decode_utf8(text_, pos);
    return {c.code_point, c.valid ? classify(c.code_point) : kSymbol, c.n_bytes};
  }
  // The end of the run of characters of `classes` that begins at pos; at most n_max of them unless that is 0.
  [[nodiscard]] size_t run(size_t pos, CharClass classes, int n_max = 0) const {
    int n = 0;
    for (Char c = at(pos); (c.cls & classes) != 0; c = at(pos)) {
      pos += c.n_bytes;
      if (++n == n_max) break;
    }
    return pos;
  }
  [[nodiscard]] size_t size() const { return text_.size(); }

 private:
  std::string_view text_;
};

// Each function gives the end of the match that begins at pos, or kNoMatch; the order in match() is the order of the
// alternatives in the expression.
class WordScanner {
 public:
  WordScanner(const WordRules& rules, std::string_view text) : rules_(rules), read_(text) {}

  [[nodiscard]] size_t match(size_t pos) const {
    const Char c = read_.at(pos);
    if (const size_t end = contraction_word(pos); end != kNoMatch) return end;
    if (const size_t end = symbol_before_word(pos, c); end != kNoMatch) return end;
    if (const size_t end = word(pos, c); end != kNoMatch) return end;
    if (const size_t end = digits(pos, c); end != kNoMatch) return end;
    if (const size_t end = symbols(pos, c); end != kNoMatch) return end;
    return c.cls == kSpace ? spaces(pos) : kNoMatch;
  }

 private:
  // '(s|t|m|d|re|ve|ll)
  [[nodiscard]] size_t contraction(size_t pos, bool any_case) const {
    if (read_.at(pos).value != '\'') return kNoMatch;
    const char32_t fold = any_case ? 32 : 0;
    const char32_t first = read_.at(pos + 1).value | fold;
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return pos + 2;
    const char32_t second = read_.at(pos + 2).value | fold;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
      return pos + 3;
    return kNoMatch;
  }
  [[nodiscard]] size_t contraction_word(size_t pos) const {
    if (rules_.contractions == Contractions::kLowerCase) return contraction(pos, false);
    if (rules_.contractions == Contractions::kAnyCase) return contraction(pos, true);
    return kNoMatch;
  }

  [[nodiscard]] size_t symbol_before_word(size_t pos, const Char& c) const {
    if (!rules_.ascii_symbol_before_word || c.value >= 128 || (c.cls & (kPunctuation | kSymbol)) == 0) return kNoMatch;
    size_t end = pos + 1;
    while (is_ascii_letter(read_.at(end))) ++end;
    return end > pos + 1 ? end : kNoMatch;
  }

  [[nodiscard]] bool may_lead(const Char& c) const {
    if (!rules_.any_lead) return c.value == ' ';
    return c.cls != 0 && !is_newline(c) && (c.cls & rules_.no_lead) == 0;
  }
  [[nodiscard]] size_t word(size_t pos, const Char& c) const {
    if (rules_.cased) return cased_word(pos, c);
    if ((c.cls & rules_.letters) != 0) return read_.run(pos, rules_.letters);
    if (!may_lead(c)) return kNoMatch;
    const size_t end = read_.run(pos + c.n_bytes, rules_.letters);
    return end > pos + c.n_bytes ? end : kNoMatch;
  }

  // lead? U* L+ | lead? U+ L*   with U = upper, other, mark and L = lower, other, mark; then perhaps a contraction.
  [[nodiscard]] size_t cased_word(size_t pos, const Char& c) const {
    const bool lead = may_lead(c);
    size_t end = lead ? upper_then_lower(pos + c.n_bytes) : kNoMatch;
    if (end == kNoMatch) end = upper_then_lower(pos);
    if (end == kNoMatch && lead) end = uppers(pos + c.n_bytes);
    if (end == kNoMatch) end = uppers(pos);
    if (end == kNoMatch || rules_.contractions != Contractions::kSuffix) return end;
    const size_t with_suffix = contraction(end, true);
    return with_suffix == kNoMatch ? end : with_suffix;
  }
  static constexpr CharClass kBoth = kOtherLetter | kMark;
  // U* L+: what U* took too much it gives back to the last character that is both.
  [[nodiscard]] size_t upper_then_lower(size_t pos) const {
    size_t after_last_both = kNoMatch;
    Char c = read_.at(pos);
    for (; (c.cls & (kUpper | kBoth)) != 0; c = read_.at(pos)) {
      pos += c.n_bytes;
      if ((c.cls & kBoth) != 0) after_last_both = pos;
    }
    return (c.cls & kLower) != 0 ? read_.run(pos, kLower | kBoth) : after_last_both;
  }
  [[nodiscard]] size_t uppers(size_t pos) const {
    const size_t end = read_.run(pos, kUpper | kBoth);
    return end > pos ? end : kNoMatch;
  }

  [[nodiscard]] size_t digits(size_t pos, const Char& c) const {
    if (rules_.n_digits_max < 0) return kNoMatch;
    if (c.cls == kNumber) return read_.run(pos, kNumber, rules_.n_digits_max);
    if (rules_.n_digits_max != 0 || c.value != ' ') return kNoMatch;
    const size_t end = read_.run(pos + 1, kNumber);
    return end > pos + 1 ? end : kNoMatch;
  }

  [[nodiscard]] size_t symbols(size_t pos, const Char& c) const {
    const size_t begin = c.value == ' ' ? pos + 1 : pos;
    size_t end = read_.run(begin, rules_.symbols);
    if (end == begin) return kNoMatch;
    for (Char tail = read_.at(end); tail.cls != 0 && tail.value < 128; tail = read_.at(end)) {
      if (!rules_.symbols_tail.contains(static_cast<char>(tail.value))) break;
      ++end;
    }
    return end;
  }

  // \s*[\r\n]+ | \s+(?!\S) | \s+
  [[nodiscard]] size_t spaces(size_t pos) const {
    size_t after_newline = kNoMatch;
    size_t last = pos;
    size_t end = pos;
    for (Char c = read_.at(end); c.cls == kSpace; c = read_.at(end)) {
      last = end;
      end += c.n_bytes;
      if (is_newline(c)) after_newline = end;
    }
    if (rules_.newlines && after_newline != kNoMatch) return after_newline;
    return end < read_.size() && last > pos ? last : end;
  }

  const WordRules& rules_;
  Reader read_;
};

class RunScanner {
 public:
  RunScanner(const RunRule& rule, std::string_view text) : rule_(rule), read_(text) {}

  [[nodiscard]] size_t match(size_t pos) const {
    const Char c = read_.at(pos);
    if (const size_t end = run(pos); end != kNoMatch) return end;
    return rule_.space_lead && c.cls == kSpace ? run(pos + c.n_bytes) : kNoMatch;
  }

 private:
  [[nodiscard]] bool belongs(const Char& c) const {
    if ((c.cls & rule_.classes) != 0) return true;
    if (rule_.east_asian && ((c.value >= 0x4E00 && c.value <= 0x9FA5) || (c.value >= 0x3040 && c.value <= 0x30FF)))
      return true;
    return c.cls != 0 && c.value < 128 && rule_.more.contains(static_cast<char>(c.value));
  }
  [[nodiscard]] size_t run(size_t pos) const {
    int n = 0;
    for (Char c = read_.at(pos); belongs(c); c = read_.at(pos)) {
      pos += c.n_bytes;
      if (++n == rule_.n_max) break;
    }
    return n >= rule_.n_min ? pos : kNoMatch;
  }
  const RunRule& rule_;
  Reader read_;
};

// Matches, and what lies between them, in order.
template <typename Scanner, typename Emit>
void cut(const Scanner& scanner, std::string_view text, const Emit& sink) {
  size_t unmatched = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = scanner.match(pos);
    if (end == kNoMatch) {
      pos += decode_utf8(text, pos).n_bytes;
      continue;
    }
    if (unmatched < pos) sink(text.substr(unmatched, pos - unmatched));
    sink(text.substr(pos, end - pos));
    pos = unmatched = end;
  }
  if (unmatched < text.size()) sink(text.substr(unmatched));
}

// The depth of this recursion is the number of stages, at most five.
void cut_by_stages(std::span<const PreTokenizerStage> stages, std::string_view text, const PreTokenizer::Sink& sink) {
  if (stages.empty()) return sink(text);
  const PreTokenizerStage& stage = stages.front();
  const auto next = [&](std::string_view word) { cut_by_stages(stages.subspan(1), word, sink); };
  if (stage.kind == PreTokenizerStage::Kind::kWords) {
    cut(WordScanner(stage.words, text), text, next);
  } else {
    cut(RunScanner(stage.run, text), text, next);
  }
}

}  // namespace

void PreTokenizer::split(std::string_view text, const Sink& sink) const { cut_by_stages(stages, text, sink); }

}  // namespace hearth
