#include "serve/chat_request.h"

#include <array>

#include "base/json.h"
#include "base/limits.h"

namespace hearth::serve {
namespace {

constexpr size_t kNameBytes = 128;

bool is_text_part(std::string_view type) {
  return type == "text" || type == "input_text" || type == "output_text" || type == "refusal";
}

Result<boost::json::array> read_calls(const boost::json::array& calls, const std::string& path) {
  boost::json::array out;
  for (size_t i = 0; i < calls.size(); ++i) {
    Fields call(calls[i], fmt::format("{}[{}]", path, i));
    const auto* function = call.object("function");
    if (!function) call.wrong("function", "is missing");
    TRY(call.check());
    Fields fields(*function, call.path_of("function"));
    const auto name = fields.text("name");
    if (!name || name->empty()) fields.wrong("name", "is missing");
    TRY(fields.check());
    boost::json::object arguments;
    if (const auto* given = fields.find("arguments"))
      arguments = TRY(read_arguments(*given, fields.path_of("arguments")));
    boost::json::object written{{"type", "function"}, {"function", {{"name", *name}, {"arguments", arguments}}}};
    if (auto id = call.text("id")) written["id"] = *id;
    TRY(call.check());
    out.emplace_back(std::move(written));
  }
  return out;
}

Result<boost::json::object> read_message(const boost::json::value& value, const std::string& path) {
  Fields fields(value, path);
  const auto role = fields.word("role", {"system", "developer", "user", "assistant", "tool", "function"});
  if (!role) fields.wrong("role", "is missing");
  TRY(fields.check());
  constexpr std::array<std::string_view, 6> kRoles{"system", "system", "user", "assistant", "tool", "tool"};
  boost::json::object out{{"role", kRoles[*role]}, {"content", read_content(fields, "content")}};
  const bool assistant = kRoles[*role] == "assistant";
  if (const auto* calls = assistant ? fields.array("tool_calls") : nullptr; calls && !calls->empty())
    out["tool_calls"] = TRY(read_calls(*calls, fields.path_of("tool_calls")));
  if (!fields.find("content") && !assistant) fields.wrong("content", "is missing");
  for (const std::string_view name : {"reasoning", "thinking", "reasoning_content"})
    if (auto thoughts = assistant ? fields.text(name) : std::nullopt) out["reasoning_content"] = *thoughts;
  for (const std::string_view name : {"tool_call_id", "name"})
    if (auto text = fields.text(name)) out[name] = *text;
  TRY(fields.check());
  return out;
}

}  // namespace

std::string read_content(Fields& message, std::string_view name) {
  const auto* content = message.find(name);
  if (!content) return {};
  if (content->is_string()) return std::string(content->get_string());
  const auto* parts = content->if_array();
  if (!parts) {
    message.wrong(name, fmt::format("need a string or an array of parts, got {}", kind_of(*content)));
    return {};
  }
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    Fields part((*parts)[i], fmt::format("{}[{}]", message.path_of(name), i));
    const std::string type = part.text("type").value_or("text");
    const auto piece = is_text_part(type) ? part.text(type == "refusal" ? "refusal" : "text") : std::nullopt;
    if (!is_text_part(type)) part.wrong("type", kTextOnly);
    if (!piece) part.wrong("text", "is missing");
    if (const auto checked = part.check(); !checked) message.wrong(checked.error());
    if (!text.empty()) text += '\n';
    text += piece.value_or("");
  }
  return text;
}

Result<boost::json::object> read_arguments(const boost::json::value& arguments, const std::string& path) {
  if (const auto* object = arguments.if_object()) return *object;
  if (!arguments.is_string())
    return fail(Code::kInvalidArgument, "{}: need an object or its text, got {}", path, kind_of(arguments));
  const std::string_view text = arguments.get_string();
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return boost::json::object();
  const auto parsed = parse_json(text);
  if (!parsed) return fail(Code::kInvalidArgument, "{}: {}", path, parsed.error().message);
  if (!parsed->is_object()) return fail(Code::kInvalidArgument, "{}: need an object, got {}", path, kind_of(*parsed));
  return parsed->get_object();
}

Result<boost::json::array> read_messages(const boost::json::array& messages, std::string_view path) {
  if (messages.empty()) return fail(Code::kInvalidArgument, "{}: need at least one", path);
  boost::json::array out;
  for (size_t i = 0; i < messages.size(); ++i)
    out.emplace_back(TRY(read_message(messages[i], fmt::format("{}[{}]", path, i))));
  return out;
}

Result<boost::json::array> read_tools(const boost::json::array& tools) {
  if (tools.size() > limits::kTools)
    return fail(Code::kLimit, "tools: {} of them, the limit is {}", tools.size(), limits::kTools);
  boost::json::array out;
  for (size_t i = 0; i < tools.size(); ++i) {
    Fields tool(tools[i], fmt::format("tools[{}]", i));
    if (tool.text("type").value_or("function") != "function") tool.wrong("type", "need \"function\"");
    const auto* function = tool.object("function");
    if (!function) tool.wrong("function", "is missing");
    TRY(tool.check());
    Fields fields(*function, tool.path_of("function"));
    const auto name = fields.text("name");
    const bool usable = name && !name->empty() && name->size() <= kNameBytes &&
                        name->find_first_of("\"\\\n\r\t[]{}()<> ") == std::string::npos;
    if (!usable) fields.wrong("name", fmt::format("need 1 to {} letters, digits or _ - . :", kNameBytes));
    fields.text("description");
    const auto* parameters = fields.object("parameters");
    TRY(fields.check());
    // Templates read both without asking whether they are there.
    boost::json::object written(*function);
    if (!fields.find("description")) written["description"] = "";
    if (!parameters) written["parameters"] = {{"type", "object"}, {"properties", boost::json::object()}};
    out.push_back({{"type", "function"}, {"function", std::move(written)}});
  }
  return out;
}

Result<boost::json::array> read_flat_tools(const boost::json::array& tools, std::string_view type,
                                           std::string_view schema) {
  boost::json::array out;
  for (size_t i = 0; i < tools.size(); ++i) {
    Fields tool(tools[i], fmt::format("tools[{}]", i));
    if (tool.text("type").value_or(std::string(type)) != type)
      tool.wrong("type", fmt::format("this server has no tools of its own, only \"{}\"", type));
    const auto* parameters = tool.object(schema);
    TRY(tool.check());
    boost::json::object function = tools[i].as_object();
    function.erase("type");
    function.erase(schema);
    if (parameters) function["parameters"] = *parameters;
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return read_tools(out);
}

void read_tool_choice(Fields& body, ChatRequest& request) {
  const auto* choice = body.find("tool_choice");
  if (!choice) return;
  if (choice->is_string()) {
    constexpr std::array kUses{ToolUse::kAuto, ToolUse::kNone, ToolUse::kRequired, ToolUse::kRequired};
    const auto use = body.word("tool_choice", {"auto", "none", "required", "any"});
    if (use) request.tool_use = kUses[*use];
    return;
  }
  Fields fields(*choice, body.path_of("tool_choice"));
  const auto* function = fields.object("function");  // chat's form; in the others the name stands beside the type
  const boost::json::value& holder = function ? *fields.find("function") : *choice;
  Fields named(holder, function ? "tool_choice.function" : "tool_choice");
  const auto name = named.text("name");
  if (!name) named.wrong("name", "is missing");
  for (const Fields* read : {&fields, &named})
    if (const auto checked = read->check(); !checked) return body.wrong(checked.error());
  request.tool_use = ToolUse::kRequired;
  request.named_tool = *name;
}

Result<void> check_tool_choice(const ChatRequest& request) {
  if (request.tool_use == ToolUse::kRequired && request.tools.empty())
    return fail(Code::kInvalidArgument, "tool_choice: asks for a call, but there are no tools");
  bool known = request.named_tool.empty();
  for (const auto& tool : request.tools)
    known = known || tool.at("function").at("name").as_string() == request.named_tool;
  if (!known) return fail(Code::kInvalidArgument, "tool_choice: no tool has the name that it asks for");
  if (request.options.form.kind != OutputForm::Kind::kText && request.tool_use == ToolUse::kRequired)
    return fail(Code::kInvalidArgument, "tool_choice: a call cannot be combined with {}", request.options.form.field);
  return {};
}

Result<ChatRequest> read_openai_chat(const boost::json::value& value) {
  Fields body(value, "");
  ChatRequest request;
  request.model = body.text("model").value_or("");
  read_answer_options(body, request.options);
  const auto* messages = body.array("messages");
  if (!messages) body.wrong("messages", "is missing");
  const auto* tools = body.array("tools");
  request.parallel_calls = body.flag("parallel_tool_calls").value_or(true);
  read_tool_choice(body, request);
  if (const auto* arguments = body.object("chat_template_kwargs")) request.template_arguments = *arguments;
  if (const auto effort = body.text("reasoning_effort")) {
    request.template_arguments["reasoning_effort"] = *effort;
    if (*effort == "none") request.template_arguments["enable_thinking"] = false;
  }
  TRY(body.check());
  request.messages = TRY(read_messages(*messages));
  if (tools) request.tools = TRY(read_tools(*tools));
  TRY(check_tool_choice(request));
  return request;
}

}  // namespace hearth::serve
