// Tool calls in the text of an answer: which form a model's chat template speaks, and a parser of it that works while the answer
// comes.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

enum class CallBody : uint8_t {
  kJson,    // {"name": "f", "arguments": {...}}
  kNamed,   // f[ARGS]{...}
  kPython,  // [f(a="x", b=1)]
  kGemma,   // call:f{a:<escape>x<escape>,b:1}
  kXml,     // <function=f><parameter=a>x</parameter></function>
};

// How one family writes calls: begin, before, call, (between, call)..., after, end.
struct ToolSyntax {
  std::string_view name;
  std::string_view template_mark;  // what in a template's source says that its model writes so
  std::string_view begin;          // may be a control token's text
  std::string_view before, between, after;
  std::string_view end;  // empty: the calls go on to the end of the answer
  std::string_view arguments_key = "arguments";
  CallBody body = CallBody::kJson;
  bool bare = false;  // a call may open the answer without `begin`
};

// The form for a template, by its source; for one that knows none of them the generic form (Hermes').
[[nodiscard]] const ToolSyntax& tool_syntax(std::string_view template_source);
[[nodiscard]] const ToolSyntax& generic_tool_syntax();
// Whether a template shows tools to its model itself.
[[nodiscard]] bool template_takes_tools(std::string_view template_source);

struct ToolPart {
  enum class Kind : uint8_t { kText, kCall, kArguments, kCallEnd };
  Kind kind = Kind::kText;
  std::string text;  // of the answer; the name of the function; the next characters of its arguments (JSON)
};

// Finds calls in an answer as it comes. Text that may be the beginning of a call waits; what turns out to be none is text. The
// arguments of a call that has its kCallEnd are one whole JSON object; one without was cut off. White space around calls is
// dropped. Never fails, whatever the text. One per answer; not shared between threads.
class ToolCallParser {
 public:
  // `names`: of the functions there are; decides only whether a call without mark is one.
  ToolCallParser(const ToolSyntax& syntax, std::vector<std::string> names);
  std::vector<ToolPart> push(std::string_view text);
  std::vector<ToolPart> finish();  // what was held back; call once, after the last push

 private:
  enum class State { kStart, kText, kBlock, kObject, kArguments, kClosing };
  using Parts = std::vector<ToolPart>;
  std::vector<ToolPart> run(bool last);
  bool step(Parts& parts, bool last);
  bool in_text(Parts& parts, bool last);
  bool in_block(Parts& parts, bool last);
  bool in_named(Parts& parts, bool last);
  bool in_buffered(Parts& parts, bool last);
  bool in_object(Parts& parts, bool last);
  bool in_arguments(Parts& parts);
  bool is_known(std::string_view name) const;
  void give_up(Parts& parts);

  // Follows brackets and strings of a JSON value.
  struct Scanner {
    int depth = 0;
    bool in_string = false, escaped = false;
    bool ends_at(char c);                  // the value is complete with this character
    size_t end_of(std::string_view text);  // one past its end, or npos
  };

  const ToolSyntax* syntax_;
  std::vector<std::string> names_;
  State state_ = State::kStart;
  bool bare_ = false;    // the object at hand had no mark
  bool called_ = false;  // there was a call
  Scanner scanner_;
  std::string held_;
};

// Arguments written as literals of Python (key=value) or FunctionGemma's (key:value), from `at`, just behind the opening bracket,
// to past the `close`. kMalformed for anything else, kLimit for deep nesting.
Result<boost::json::object> read_literal_arguments(std::string_view text, size_t& at, char separator, char close);

}  // namespace hearth
