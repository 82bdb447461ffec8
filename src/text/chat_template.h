// Chat templates: the Jinja that models carry, run by a bounded interpreter without access to anything but its
// arguments.
#pragma once

#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;
  boost::json::value tools;   // null or an array in OpenAI's form
  boost::json::object extra;  // further variables (enable_thinking, documents, ...)
  std::string date_string;    // what strftime_now renders, empty for today
};

// A parsed template. Immutable: any thread may render.
// Limits: limits::kTemplate* for source, depth, steps, output and range; over them is kLimit, a syntax error kMalformed
// with line, raise_exception() in the template kInvalidArgument with its text.
class ChatTemplate {
 public:
  static Result<ChatTemplate> parse(std::string_view source);
  // messages: an array of {"role", "content", "tool_calls"?, ...} in OpenAI's form.
  [[nodiscard]] Result<std::string> render(const boost::json::array& messages,
                                           const ChatTemplateOptions& options) const;

  // The text it was parsed from; says which forms of tool calls and thoughts the model knows.
  [[nodiscard]] std::string_view source() const;

  struct Program;  // the syntax tree

 private:
  std::shared_ptr<const Program> program_;
};

}  // namespace hearth
