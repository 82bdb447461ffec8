#include <boost/json/array.hpp>

#include "serve/responses.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

// Calls that follow each other are one message of the assistant.
void add_call(Fields& item, json::array& messages) {
  json::object call{
      {"type", "function"},
      {"id", item.text("call_id").value_or("")},
      {"function", {{"name", item.text("name").value_or("")}, {"arguments", item.text("arguments").value_or("")}}}};
  auto* last = messages.empty() ? nullptr : messages.back().as_object().if_contains("tool_calls");
  if (last)
    last->as_array().emplace_back(std::move(call));
  else
    messages.push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", json::array{std::move(call)}}});
}

// The items of a conversation as messages of chats.
Result<json::array> read_input(const json::array& items) {
  json::array messages;
  for (size_t i = 0; i < items.size(); ++i) {
    Fields item(items[i], fmt::format("input[{}]", i));
    TRY(item.check());
    const std::string type = item.text("type").value_or("message");
    if (type == "function_call") {
      add_call(item, messages);
    } else if (type == "function_call_output") {
      messages.push_back({{"role", "tool"},
                          {"tool_call_id", item.text("call_id").value_or("")},
                          {"content", read_content(item, "output")}});
    } else if (type == "message") {
      const std::string content = read_content(item, "content");
      messages.push_back({{"role", item.text("role").value_or("user")}, {"content", content}});
    } else if (type != "reasoning") {
      item.wrong("type", "this server takes messages, calls of functions and their outputs");
    }
    TRY(item.check());
  }
  return messages;
}

}  // namespace

Result<ChatRequest> read_responses(const json::value& value) {
  Fields body(value, "");
  ChatRequest request;
  request.model = body.text("model").value_or("");
  read_answer_options(body, request.options);
  request.options.n = 1;
  request.options.logprobs = -1;
  if (const auto most = body.integer("max_output_tokens", 1, INT32_MAX))
    request.options.max_tokens = static_cast<int>(*most);
  if (body.find("previous_response_id"))
    body.wrong("previous_response_id", "nothing is stored here; send the whole conversation as input");
  if (const auto* text = body.object("text")) {
    Fields fields(*text, "text");
    read_response_format(fields, "format", request.options.form);
    if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
  }
  if (const auto* reasoning = body.object("reasoning")) {
    Fields fields(*reasoning, "reasoning");
    if (const auto effort = fields.text("effort")) request.template_arguments["enable_thinking"] = *effort != "none";
    if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
  }
  request.parallel_calls = body.flag("parallel_tool_calls").value_or(true);
  read_tool_choice(body, request);
  const auto* tools = body.array("tools");
  const auto* input = body.find("input");
  if (!input || (!input->is_string() && !input->is_array())) body.wrong("input", "need a text or an array of items");
  json::array messages;
  if (const std::string rules = read_content(body, "instructions"); !rules.empty())
    messages.push_back({{"role", "system"}, {"content", rules}});
  TRY(body.check());
  if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", input->get_string()}});
  } else {
    const json::array items = TRY(read_input(input->get_array()));
    messages.insert(messages.end(), items.begin(), items.end());
  }
  request.messages = TRY(read_messages(messages, "input"));
  if (tools) request.tools = TRY(read_flat_tools(*tools, "function", "parameters"));
  TRY(check_tool_choice(request));
  return request;
}

}  // namespace hearth::serve
