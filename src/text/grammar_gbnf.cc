// GBNF as llama.cpp's grammars/README.md describes it. The parser keeps its own stack of groups.
#include <algorithm>
#include <map>

#include "base/limits.h"
#include "text/grammar_builder.h"
#include "text/utf8.h"

namespace hearth {
namespace {

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(text) {}

  Result<Grammar::Shared> parse(std::string_view root) {
    if (text_.size() > limits::kGrammarBytes) {
      return fail(Code::kLimit, "a grammar of {} bytes, the limit is {}", text_.size(), limits::kGrammarBytes);
    }
    if (!is_utf8(text_)) return fail(Code::kInvalidArgument, "the grammar is not UTF-8");
    for (skip_space(true); at_ < text_.size(); skip_space(true)) TRY(parse_rule());
    for (const auto& [name, rule] : rules_) {
      if (!rule.defined) return fail(Code::kInvalidArgument, "grammar: no rule is named \"{}\"", name);
    }
    const auto found = rules_.find(root);
    if (found == rules_.end()) return fail(Code::kInvalidArgument, "grammar: no rule is named \"{}\"", root);
    return builder_.finish(found->second.rule);
  }

 private:
  struct NamedRule {
    GrammarBuilder::Rule rule;
    bool defined = false;
  };

  template <class... Args>
  std::unexpected<Error> wrong(fmt::format_string<Args...> what, Args&&... args) const {
    const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    return fail(Code::kInvalidArgument, "grammar, line {} column {}: {}", line, column,
                fmt::format(what, std::forward<Args>(args)...));
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space(bool lines) {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
        if (at_ == text_.size()) return;
      }
      const bool is_space = text_[at_] == ' ' || text_[at_] == '\t';
      const bool is_line = text_[at_] == '\n' || text_[at_] == '\r';
      if (!is_space && !(lines && is_line)) return;
    }
  }

  std::string_view read_name() {
    const size_t begin = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Result<NamedRule*> rule_of(std::string_view name) {
    const auto found = rules_.find(name);
    if (found != rules_.end()) return &found->second;
    if (rules_.size() >= limits::kGrammarRules) {
      return fail(Code::kLimit, "the grammar has more than {} rules", limits::kGrammarRules);
    }
    return &rules_.emplace(name, NamedRule{builder_.declare()}).first->second;
  }

  Result<void> parse_rule() {
    const std::string_view name = read_name();
    if (name.empty()) return wrong("expected the name of a rule");
    skip_space(false);
    if (text_.substr(at_, 3) != "::=") return wrong("expected ::= after \"{}\"", name);
    at_ += 3;
    skip_space(true);
    NamedRule* const rule = TRY(rule_of(name));
    if (rule->defined) return wrong("the rule \"{}\" is defined twice", name);
    rule->defined = true;
    GroupStack groups(builder_);
    TRY(parse_alternatives(groups));
    builder_.define(rule->rule, groups.finish().part);
    return {};
  }

  Result<void> parse_alternatives(GroupStack& groups) {
    for (;; skip_space(groups.depth() > 0)) {
      const char c = peek();
      if (at_ == text_.size() || c == '\n' || c == '\r') {
        if (groups.depth() > 0) return wrong("a group is not closed");
        return {};
      }
      if (builder_.too_large())
        return fail(Code::kLimit, "the grammar needs more than {} states", limits::kGrammarStates);
      if (c == '|') {
        ++at_;
        groups.alternative();
        skip_space(true);
      } else if (c == '(') {
        ++at_;
        TRY(groups.open());
        skip_space(true);
      } else if (c == ')') {
        if (!groups.close()) return wrong("a group is closed that was not opened");
        ++at_;
      } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        TRY(parse_repetition(groups));
      } else {
        const GrammarBuilder::Part symbol = TRY(parse_symbol());
        groups.append({symbol});
      }
    }
  }

  Result<void> parse_repetition(GroupStack& groups) {
    const char c = text_[at_];
    if (groups.last() == nullptr) return wrong("'{}' has nothing to repeat", c);
    ++at_;
    if (c != '{') {
      groups.repeat_last(c == '+' ? 1 : 0, c == '?' ? 1 : kNoBound);
      return {};
    }
    const auto repetition = read_repetition(text_, at_);
    if (!repetition) return wrong("expected {{m}}, {{m,}} or {{m,n}}");
    if (repetition->too_large) {
      return wrong("a repetition needs m <= n <= {}", limits::kGrammarRepetition);
    }
    groups.repeat_last(repetition->min, repetition->max);
    return {};
  }

  Result<GrammarBuilder::Part> parse_symbol() {
    const char c = text_[at_];
    if (c == '"') return parse_literal();
    if (c == '[') return parse_set();
    if (c == '.') {
      ++at_;
      return builder_.one_of({{0, kLastCodePoint}});
    }
    if (c == '<' || c == '!') return wrong("tokens by id or text are not supported; write the text as a literal");
    const std::string_view name = read_name();
    if (name.empty()) return wrong("unexpected '{}'", text_.substr(at_, decode_utf8(text_, at_).n_bytes));
    const NamedRule* const rule = TRY(rule_of(name));
    return builder_.call(rule->rule);
  }

  // The character at `at_`, which may be an escape.
  Result<char32_t> read_char() {
    if (peek() != '\\') {
      const DecodedChar c = decode_utf8(text_, at_);
      at_ += c.n_bytes;
      return c.code_point;
    }
    ++at_;
    const char kind = peek();
    ++at_;
    std::optional<char32_t> value;
    switch (kind) {
      case 'x':
        value = read_hex(text_, at_, 2);
        break;
      case 'u':
        value = read_hex(text_, at_, 4);
        break;
      case 'U':
        value = read_hex(text_, at_, 8);
        break;
      case 't':
        value = '\t';
        break;
      case 'r':
        value = '\r';
        break;
      case 'n':
        value = '\n';
        break;
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        value = static_cast<char32_t>(kind);
        break;
      default:
        break;
    }
    if (!value || *value > kLastCodePoint || (*value >= 0xD800 && *value <= 0xDFFF)) {
      --at_;
      return wrong("no character is written like this escape");
    }
    return *value;
  }

  Result<GrammarBuilder::Part> parse_literal() {
    std::string literal;
    for (++at_; peek() != '"';) {
      if (at_ >= text_.size()) return wrong("a literal is not closed");
      append_utf8(TRY(read_char()), literal);
    }
    ++at_;
    return builder_.literal(literal);
  }

  Result<GrammarBuilder::Part> parse_set() {
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    CharSet set;
    while (peek() != ']') {
      if (at_ >= text_.size()) return wrong("a set of characters is not closed");
      const char32_t low = TRY(read_char());
      char32_t high = low;
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        high = TRY(read_char());
      }
      if (low > high) return wrong("a range of characters runs backwards");
      set.push_back({low, high});
    }
    ++at_;
    return builder_.one_of(negated ? complement_of(set) : set);
  }

  std::string_view text_;
  size_t at_ = 0;
  GrammarBuilder builder_;
  std::map<std::string, NamedRule, std::less<>> rules_;
};

}  // namespace

Result<Grammar::Shared> Grammar::from_gbnf(std::string_view text, std::string_view root) {
  return GbnfParser(text).parse(root);
}

}  // namespace hearth
