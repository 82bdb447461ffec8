#include "text/chat_template.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/limits.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_program.h"

namespace hearth {

struct ChatTemplate::Program : jinja::Program {
  std::string source;
};

namespace {
// Strings stay where they are: the JSON outlives the render.
Result<jinja::Value> value_of(jinja::Heap& heap, const boost::json::value& json, uint64_t depth) {
  using jinja::Value;
  if (depth > limits::kTemplateDepth)
    return fail(Code::kLimit, "the messages or tools nest deeper than {} levels", limits::kTemplateDepth);
  switch (json.kind()) {
    case boost::json::kind::null:
      return Value::none();
    case boost::json::kind::bool_:
      return Value(json.get_bool());
    case boost::json::kind::int64:
      return Value(int64_t{json.get_int64()});
    case boost::json::kind::uint64:
      if (json.get_uint64() <= INT64_MAX) return Value(static_cast<int64_t>(json.get_uint64()));
      return Value(static_cast<double>(json.get_uint64()));
    case boost::json::kind::double_:
      return Value(json.get_double());
    case boost::json::kind::string:
      return heap.borrowed({json.get_string().data(), json.get_string().size()});
    case boost::json::kind::array: {
      std::vector<Value> items;
      items.reserve(json.get_array().size());
      for (const auto& item : json.get_array()) items.push_back(TRY(value_of(heap, item, depth + 1)));
      return heap.list(std::move(items));
    }
    case boost::json::kind::object: {
      std::vector<jinja::Entry> entries;
      entries.reserve(json.get_object().size());
      for (const auto& member : json.get_object())
        entries.emplace_back(TRY(heap.borrowed({member.key().data(), member.key().size()})),
                             TRY(value_of(heap, member.value(), depth + 1)));
      return heap.dict(std::move(entries));
    }
  }
  return Value::none();
}

Result<jinja::Value> messages_of(jinja::Heap& heap, const boost::json::array& messages) {
  std::vector<jinja::Value> items;
  items.reserve(messages.size());
  for (const auto& message : messages) items.push_back(TRY(value_of(heap, message, 2)));
  return heap.list(std::move(items));
}
}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  if (source.size() > limits::kTemplateBytes)
    return fail(Code::kLimit, "the chat template has {} bytes, over the limit of {}", source.size(),
                limits::kTemplateBytes);
  ChatTemplate parsed;
  parsed.program_ = std::make_shared<const Program>(TRY(jinja::compile(source)), std::string(source));
  return parsed;
}

std::string_view ChatTemplate::source() const { return program_->source; }

Result<std::string> ChatTemplate::render(const boost::json::array& messages, const ChatTemplateOptions& options) const {
  jinja::Interpreter interpreter(*program_, options.date_string);
  jinja::Heap& heap = interpreter.heap();
  interpreter.define("documents", jinja::Value::none());
  interpreter.define("bos_token", TRY(heap.borrowed(options.bos_token)));
  interpreter.define("eos_token", TRY(heap.borrowed(options.eos_token)));
  for (const auto& member : options.extra)
    interpreter.define({member.key().data(), member.key().size()}, TRY(value_of(heap, member.value(), 1)));
  interpreter.define("tools", TRY(value_of(heap, options.tools, 1)));
  interpreter.define("messages", TRY(messages_of(heap, messages)));
  interpreter.define("add_generation_prompt", jinja::Value(options.add_generation_prompt));
  return interpreter.run();
}

}  // namespace hearth
