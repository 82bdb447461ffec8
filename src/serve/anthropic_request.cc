#include <array>

#include "serve/anthropic.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

// The content of a tool's result: a text, or parts of text.
Result<json::object> read_result(Fields& block) {
  const auto id = block.text("tool_use_id");
  if (!id) block.wrong("tool_use_id", "is missing");
  json::object out{{"role", "tool"}, {"content", read_content(block, "content")}};
  TRY(block.check());
  out["tool_call_id"] = *id;
  return out;
}

Result<json::object> read_use(Fields& block) {
  const auto name = block.text("name"), id = block.text("id");
  const auto* input = block.object("input");
  if (!name || name->empty()) block.wrong("name", "is missing");
  TRY(block.check());
  return json::object{{"type", "function"},
                      {"id", id.value_or("")},
                      {"function", {{"name", *name}, {"arguments", input ? *input : json::object()}}}};
}

// A message's blocks: results become messages of their own, before the text.
Result<void> read_blocks(const json::array& blocks, const std::string& path, std::string_view role, json::array& out) {
  std::string text, thoughts;
  json::array calls;
  for (size_t i = 0; i < blocks.size(); ++i) {
    Fields block(blocks[i], fmt::format("{}[{}]", path, i));
    const auto* kind = block.find("type");
    if (kind && kind->is_string() && (kind->get_string() == "image" || kind->get_string() == "document"))
      block.wrong("type", kTextOnly);
    const auto type = block.word("type", {"text", "thinking", "tool_use", "tool_result", "redacted_thinking"});
    if (!type) block.wrong("type", "this server takes text, thinking, tool_use and tool_result");
    TRY(block.check());
    if (type == 0) text += (text.empty() ? "" : "\n") + block.text("text").value_or("");
    if (type == 1) thoughts += block.text("thinking").value_or("");
    if (type == 2) calls.emplace_back(TRY(read_use(block)));
    if (type == 3) out.emplace_back(TRY(read_result(block)));
    TRY(block.check());
  }
  if (role == "user" && text.empty() && !out.empty()) return {};
  json::object message{{"role", role}, {"content", text}};
  if (!thoughts.empty()) message["reasoning_content"] = thoughts;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  out.emplace_back(std::move(message));
  return {};
}

Result<json::array> read_conversation(Fields& body) {
  json::array out;
  if (std::string system = read_content(body, "system"); !system.empty())
    out.push_back({{"role", "system"}, {"content", system}});
  const auto* messages = body.array("messages");
  if (!messages || messages->empty()) body.wrong("messages", "need at least one");
  TRY(body.check());
  for (size_t i = 0; i < messages->size(); ++i) {
    Fields message((*messages)[i], fmt::format("messages[{}]", i));
    const auto role = message.word("role", {"user", "assistant"});
    if (!role) message.wrong("role", "is missing");
    const auto* content = message.find("content");
    if (!content || (!content->is_string() && !content->is_array())) message.wrong("content", "need text or blocks");
    TRY(message.check());
    const std::string_view speaker = *role == 0 ? "user" : "assistant";
    if (content->is_string())
      out.push_back({{"role", speaker}, {"content", content->get_string()}});
    else
      TRY(read_blocks(content->get_array(), message.path_of("content"), speaker, out));
  }
  return out;
}

void read_choice(Fields& body, ChatRequest& request) {
  const auto* choice = body.object("tool_choice");
  if (!choice) return;
  Fields fields(*choice, "tool_choice");
  constexpr std::array kUses{ToolUse::kAuto, ToolUse::kRequired, ToolUse::kNone, ToolUse::kRequired};
  const auto type = fields.word("type", {"auto", "any", "none", "tool"});
  if (!type) fields.wrong("type", "is missing");
  request.parallel_calls = !fields.flag("disable_parallel_tool_use").value_or(false);
  if (type == 3 && !fields.find("name")) fields.wrong("name", "is missing");
  if (type == 3) request.named_tool = fields.text("name").value_or("");
  if (type) request.tool_use = kUses[*type];
  if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
}

Result<ChatRequest> read_request(const json::value& value, bool generates) {
  Fields body(value, "");
  ChatRequest request;
  request.model = body.text("model").value_or("");
  read_answer_options(body, request.options);
  request.options.n = 1;
  request.options.logprobs = -1;
  if (generates && !body.find("max_tokens")) body.wrong("max_tokens", "is missing");
  if (generates && request.options.max_tokens < 1) body.wrong("max_tokens", "need at least 1");
  for (std::string& stop : body.texts("stop_sequences"))
    if (!stop.empty()) request.options.stop.push_back(std::move(stop));
  read_choice(body, request);
  if (const auto* thinking = body.object("thinking")) {
    Fields fields(*thinking, "thinking");
    const auto type = fields.word("type", {"enabled", "disabled", "adaptive"});
    if (type) request.template_arguments["enable_thinking"] = *type != 1;
    if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
  }
  const auto* tools = body.array("tools");
  TRY(body.check());
  request.messages = TRY(read_conversation(body));
  if (tools) request.tools = TRY(read_flat_tools(*tools, "custom", "input_schema"));
  TRY(check_tool_choice(request));
  return request;
}

}  // namespace

Result<ChatRequest> read_anthropic(const json::value& body) { return read_request(body, true); }
Result<ChatRequest> read_anthropic_count(const json::value& body) { return read_request(body, false); }

}  // namespace hearth::serve
