// Arguments of calls that are not written as JSON.
#include <boost/json/array.hpp>
#include <charconv>

#include "base/json.h"
#include "base/limits.h"
#include "text/tool_calls.h"

namespace hearth {
namespace {

class LiteralReader {
 public:
  LiteralReader(std::string_view text, size_t at) : text_(text), at_(at) {}
  [[nodiscard]] size_t at() const { return at_; }

  Result<boost::json::object> members(char separator, char close, uint64_t depth) {
    boost::json::object object;
    while (!takes(close)) {
      if (!object.empty() && !takes(',')) return malformed("a comma");
      const std::string key = TRY(this->key(separator));
      if (!takes(separator)) return malformed("a separator");
      object[key] = TRY(value(depth + 1));
    }
    return object;
  }

 private:
  static constexpr std::string_view kEscape = "<escape>";

  [[nodiscard]] std::unexpected<Error> malformed(std::string_view expected) const {
    return fail(Code::kMalformed, "the arguments of a call: expected {} at byte {}", expected, at_);
  }
  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  bool takes(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Result<std::string> key(char separator) {
    skip_space();
    if (at_ < text_.size() && (text_[at_] == '"' || text_[at_] == '\'')) return quoted();
    const size_t end = text_.find(separator, at_);
    if (end == std::string_view::npos || end == at_) return malformed("a name");
    std::string name(text_.substr(at_, end - at_));
    at_ = end;
    while (name.ends_with(' ')) name.pop_back();
    return name;
  }

  Result<std::string> quoted() {
    const char quote = text_[at_++];
    std::string out;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == quote) {
        ++at_;
        return out;
      }
      if (text_[at_] != '\\' || at_ + 1 == text_.size()) {
        out += text_[at_];
        continue;
      }
      const char c = text_[++at_];
      if (c == 'u') {
        out += TRY(code_point());
        continue;
      }
      out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
    return malformed("a closing quote");
  }

  // Behind "\u": four hexadecimal digits or, for a pair of surrogates, twice that.
  Result<std::string> code_point() {
    std::string_view escape = text_.substr(at_ - 1, 6);
    if (const std::string_view pair = text_.substr(at_ - 1, 12); pair.size() == 12 && pair.substr(6).starts_with("\\u"))
      escape = pair;
    auto parsed = parse_json(fmt::format("\"{}\"", escape));
    if (!parsed && escape.size() == 12) parsed = parse_json(fmt::format("\"{}\"", escape = escape.substr(0, 6)));
    if (!parsed || !parsed->is_string()) return malformed("four hexadecimal digits");
    at_ += escape.size() - 2;
    return std::string(parsed->get_string());
  }

  Result<boost::json::value> value(uint64_t depth) {
    if (depth > limits::kJsonDepth)
      return fail(Code::kLimit, "the arguments of a call nest deeper than {}", limits::kJsonDepth);
    skip_space();
    if (at_ == text_.size()) return malformed("a value");
    if (text_.substr(at_).starts_with(kEscape)) return escaped();
    if (text_[at_] == '"' || text_[at_] == '\'') return boost::json::value(TRY(quoted()));
    if (takes('{')) return boost::json::value(TRY(members(':', '}', depth)));
    if (takes('[')) return list(depth);
    return word();
  }

  Result<boost::json::value> escaped() {
    at_ += kEscape.size();
    const size_t end = text_.find(kEscape, at_);
    if (end == std::string_view::npos) return malformed(kEscape);
    const std::string_view inside = text_.substr(at_, end - at_);
    at_ = end + kEscape.size();
    return boost::json::value(inside);
  }

  Result<boost::json::value> list(uint64_t depth) {
    boost::json::array array;
    while (!takes(']')) {
      if (!array.empty() && !takes(',')) return malformed("a comma");
      array.push_back(TRY(value(depth + 1)));
    }
    return boost::json::value(std::move(array));
  }

  Result<boost::json::value> word() {
    const size_t end = std::min(text_.find_first_of(",)]} \t\r\n", at_), text_.size());
    const std::string_view text = text_.substr(at_, end - at_);
    if (text == "True" || text == "true" || text == "False" || text == "false") {
      at_ = end;
      return boost::json::value(text == "True" || text == "true");
    }
    if (text == "None" || text == "null") {
      at_ = end;
      return boost::json::value(nullptr);
    }
    auto number = parse_json(text);
    if (!number || !number->is_number()) return malformed("a value");
    at_ = end;
    return number;
  }

  std::string_view text_;
  size_t at_;
};

}  // namespace

Result<boost::json::object> read_literal_arguments(std::string_view text, size_t& at, char separator, char close) {
  LiteralReader reader(text, at);
  auto object = reader.members(separator, close, 0);
  at = reader.at();
  return object;
}

}  // namespace hearth
