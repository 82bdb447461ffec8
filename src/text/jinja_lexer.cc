#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
constexpr std::string_view kSpace = " \t\n\r\v\f";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }
bool is_space(char c) { return kSpace.find(c) != std::string_view::npos; }

std::string normalised(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) TRY(lex_outside());
    add(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] bool starts(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  [[nodiscard]] char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  void advance(size_t n) {
    line_ += static_cast<uint32_t>(std::count(source_.begin() + at_, source_.begin() + at_ + n, '\n'));
    at_ += n;
  }
  void skip_space() {
    size_t end = at_;
    while (end < source_.size() && is_space(source_[end])) ++end;
    advance(end - at_);
  }

  // Text up to the next tag, and the tag. `line_starting_` is whether what came before ended a line.
  Result<void> lex_outside() {
    size_t open = source_.find('{', at_);
    while (open != std::string_view::npos && open + 1 < source_.size() &&
           std::string_view("{%#").find(source_[open + 1]) == std::string_view::npos)
      open = source_.find('{', open + 1);
    if (open == std::string_view::npos || open + 1 >= source_.size()) {
      add(TokenKind::kData, std::string(source_.substr(at_)));
      advance(source_.size() - at_);
      return {};
    }
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    add_data(source_.substr(at_, open - at_), kind, sign);
    advance(open + 2 - at_ + (sign == '-' || sign == '+' ? 1 : 0));
    if (kind == '#') return lex_comment();
    if (kind == '{') {
      add(TokenKind::kVariableBegin, {});
      return lex_inside("}}", TokenKind::kVariableEnd);
    }
    if (bool raw = false; lex_raw_begin(raw), raw) return lex_raw();
    add(TokenKind::kBlockBegin, {});
    return lex_inside("%}", TokenKind::kBlockEnd);
  }

  void add_data(std::string_view text, char tag, char sign) {
    if (sign == '-') {
      text = text.substr(0, text.find_last_not_of(kSpace) + 1);
    } else if (sign != '+' && tag != '{') {
      const size_t line_start = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line_start > 0 || line_starting_) && text.find_first_not_of(kSpace, line_start) == std::string_view::npos)
        text = text.substr(0, line_start);
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
  }

  // After a tag's end of `width` characters, which `sign` may precede.
  void finish_tag(size_t width, char sign, bool trims_newline) {
    advance(width);
    line_starting_ = false;
    const size_t before = at_;
    if (sign == '-') {
      skip_space();
    } else if (trims_newline && sign != '+' && peek() == '\n') {
      advance(1);
    }
    if (at_ > before) line_starting_ = source_[at_ - 1] == '\n';
  }

  Result<void> lex_comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) return error("a comment is not closed");
    const char sign = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+') ? source_[end - 1] : '\0';
    advance(end - at_);
    finish_tag(2, sign, true);
    return {};
  }

  void lex_raw_begin(bool& raw) {
    size_t i = at_;
    while (i < source_.size() && is_space(source_[i])) ++i;
    if (!source_.substr(i).starts_with("raw")) return;
    i += 3;
    while (i < source_.size() && is_space(source_[i])) ++i;
    const char sign = source_.substr(i).starts_with("-%}") ? '-' : '\0';
    if (sign == '\0' && !source_.substr(i).starts_with("%}")) return;
    advance(i - at_);
    finish_tag(sign == '-' ? 3 : 2, sign, false);
    raw = true;
  }

  Result<void> lex_raw() {
    for (size_t open = source_.find("{%", at_); open != std::string_view::npos; open = source_.find("{%", open + 1)) {
      size_t i = open + 2;
      const char begin_sign = i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : '\0';
      if (begin_sign != '\0') ++i;
      while (i < source_.size() && is_space(source_[i])) ++i;
      if (!source_.substr(i).starts_with("endraw")) continue;
      i += 6;
      while (i < source_.size() && is_space(source_[i])) ++i;
      const char end_sign = i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : '\0';
      if (end_sign != '\0') ++i;
      if (!source_.substr(i).starts_with("%}")) continue;
      add_data(source_.substr(at_, open - at_), '%', begin_sign);
      advance(i - at_);
      finish_tag(2, end_sign, true);
      return {};
    }
    return error("{% raw %} is not closed");
  }

  Result<void> lex_inside(std::string_view close, TokenKind close_kind) {
    std::string open_brackets;
    for (;;) {
      skip_space();
      if (at_ >= source_.size()) return error("a tag is not closed");
      if (open_brackets.empty() && lex_close(close, close_kind)) return {};
      const char c = peek();
      if (is_digit(c)) {
        TRY(lex_number());
      } else if (is_name_start(c)) {
        size_t end = at_;
        while (end < source_.size() && is_name_part(source_[end])) ++end;
        add(TokenKind::kName, std::string(source_.substr(at_, end - at_)));
        at_ = end;
      } else if (c == '\'' || c == '"') {
        TRY(lex_string(c));
      } else {
        TRY(lex_operator(open_brackets));
      }
    }
  }

  bool lex_close(std::string_view close, TokenKind close_kind) {
    const char sign = peek() == '-' || (peek() == '+' && close == "%}") ? peek() : '\0';
    if (!source_.substr(at_ + (sign == '\0' ? 0 : 1)).starts_with(close)) return false;
    add(close_kind, {});
    finish_tag(sign == '\0' ? 2 : 3, sign, close == "%}");
    return true;
  }

  Result<void> lex_number() {
    size_t end = at_;
    auto digits = [&](auto accepts) {
      while (end < source_.size() && (accepts(source_[end]) || (source_[end] == '_' && end > at_))) ++end;
    };
    const bool after_dot = !tokens_.empty() && tokens_.back().is_operator(".");
    const char second = peek(1);
    if (peek() == '0' &&
        (second == 'x' || second == 'X' || second == 'b' || second == 'B' || second == 'o' || second == 'O')) {
      end += 2;
      digits([](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
    } else {
      digits(is_digit);
      bool real = false;
      if (!after_dot && end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
        real = true;
        ++end;
        digits(is_digit);
      }
      if (!after_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit(source_[exponent])) {
          real = true;
          end = exponent;
          digits(is_digit);
        }
      }
      if (real) return add_number(TokenKind::kFloat, end);
    }
    return add_number(TokenKind::kInteger, end);
  }

  Result<void> add_number(TokenKind kind, size_t end) {
    std::string text(source_.substr(at_, end - at_));
    std::erase(text, '_');
    add(kind, std::move(text));
    at_ = end;
    return {};
  }

  Result<void> lex_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return error("a string is not closed");
    add(TokenKind::kString, unescaped(source_.substr(at_ + 1, end - at_ - 1)));
    advance(end + 1 - at_);
    return {};
  }

  Result<void> lex_operator(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 6> kLong = {"**", "//", "==", "!=", "<=", ">="};
    for (std::string_view op : kLong)
      if (starts(op)) {
        add(TokenKind::kOperator, std::string(op));
        at_ += 2;
        return {};
      }
    const char c = peek();
    if (std::string_view("+-*/%~<>=()[]{}.,:|;").find(c) == std::string_view::npos)
      return error(fmt::format("unexpected character '{}'", c));
    if (c == '(' || c == '[' || c == '{') open_brackets += c;
    if (c == ')' || c == ']' || c == '}') {
      const char open = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open_brackets.empty() || open_brackets.back() != open) return error(fmt::format("unexpected '{}'", c));
      open_brackets.pop_back();
    }
    add(TokenKind::kOperator, std::string(1, c));
    ++at_;
    return {};
  }

  std::unexpected<Error> error(std::string_view what) const {
    return fail(Code::kMalformed, "chat template line {}: {}", line_, what);
  }

  std::string_view source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};
}  // namespace

bool Token::is_operator(std::string_view op) const { return kind == TokenKind::kOperator && text == op; }
bool Token::is_name(std::string_view name) const { return kind == TokenKind::kName && text == name; }

Result<std::vector<Token>> tokenize(std::string_view source) {
  const std::string text = normalised(source);
  return Lexer(text).run();
}

}  // namespace hearth::jinja
