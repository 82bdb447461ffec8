#include "serve/chat_prompt.h"

#include <boost/json/serialize.hpp>
#include <map>

#include "text/tool_grammar.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

std::string_view text_of(const json::object& message, std::string_view name) {
  const auto* value = message.if_contains(name);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::string instructions(const json::array& tools) {
  std::string text = "You may call functions. These are the functions, as JSON schemas:\n<tools>\n";
  for (const auto& tool : tools) text += json::serialize(tool) + "\n";
  return text +
         "</tools>\nTo call one, answer with its name and arguments as JSON:\n"
         "<tool_call>\n{\"name\": <name>, \"arguments\": <arguments>}\n</tool_call>";
}

// Calls and their results as text, for templates that drop or refuse them.
void write_calls_as_text(json::array& messages) {
  for (auto& value : messages) {
    auto& message = value.as_object();
    if (text_of(message, "role") == "tool") {
      message["content"] = fmt::format("<tool_response>\n{}\n</tool_response>", text_of(message, "content"));
      message["role"] = "user";
    }
    const auto* calls = message.if_contains("tool_calls");
    if (!calls) continue;
    std::string text(text_of(message, "content"));
    for (const auto& call : calls->as_array())
      text += fmt::format("{}<tool_call>\n{}\n</tool_call>", text.empty() ? "" : "\n",
                          json::serialize(call.at("function")));
    message["content"] = text;
    message.erase("tool_calls");
  }
}

void add_to_system(json::array& messages, const std::string& text) {
  if (messages.empty() || text_of(messages[0].as_object(), "role") != "system") {
    messages.insert(messages.begin(), json::object{{"role", "system"}, {"content", text}});
    return;
  }
  auto& system = messages[0].as_object();
  system["content"] = fmt::format("{}\n\n{}", text_of(system, "content"), text);
}

// Messages by the same speaker in a row become one, and those of the system go before the first of the user.
json::array without_system(const json::array& messages) {
  std::string system;
  json::array out;
  for (const auto& value : messages) {
    json::object message = value.as_object();
    const std::string_view role = text_of(message, "role");
    if (role == "system") {
      system += fmt::format("{}\n\n", text_of(message, "content"));
      continue;
    }
    if (role == "user" && !system.empty()) {
      message["content"] = system + std::string(text_of(message, "content"));
      system.clear();
    }
    const bool joins = !out.empty() && text_of(out.back().as_object(), "role") == role && role != "tool";
    if (joins && !message.contains("tool_calls") && !out.back().as_object().contains("tool_calls")) {
      auto& before = out.back().as_object();
      before["content"] = fmt::format("{}\n\n{}", text_of(before, "content"), text_of(message, "content"));
    } else {
      out.emplace_back(std::move(message));
    }
  }
  if (!system.empty()) out.push_back({{"role", "user"}, {"content", system.substr(0, system.size() - 2)}});
  return out;
}

// Mistral's templates refuse ids of calls that have not nine characters.
void shorten_ids(json::array& messages) {
  std::map<std::string, std::string> known;
  auto shorten = [&](json::object& holder, std::string_view name) {
    const auto [at, fresh] = known.try_emplace(std::string(text_of(holder, name)));
    if (fresh) at->second = fmt::format("call{:05}", known.size());
    holder[name] = at->second;
  };
  for (auto& value : messages) {
    auto& message = value.as_object();
    if (auto* calls = message.if_contains("tool_calls"))
      for (auto& call : calls->as_array()) shorten(call.as_object(), "id");
    if (text_of(message, "role") == "tool") shorten(message, "tool_call_id");
  }
}

Result<std::string> render(const TextSide& text, const ChatRequest& request, std::string_view source, bool with_tools) {
  json::array messages = request.messages;
  if (!template_takes_tools(source)) {
    write_calls_as_text(messages);
    if (with_tools) add_to_system(messages, instructions(request.tools));
  } else if (source.contains("[TOOL_CALLS]")) {
    shorten_ids(messages);
  }
  ChatTemplateOptions options;
  if (with_tools) options.tools = request.tools;
  // What the template asks about the conversation is not for the request to say.
  options.extra = request.template_arguments;
  for (const std::string_view name : {"messages", "tools", "bos_token", "eos_token", "add_generation_prompt"})
    options.extra.erase(name);
  auto prompt = render_chat(text, messages, options);
  if (prompt || prompt.error().code != Code::kInvalidArgument) return prompt;
  // The template refuses these roles or their order.
  auto plainer = render_chat(text, without_system(messages), options);
  return plainer ? plainer : prompt;
}

Result<Grammar::Shared> grammar_for(const ChatRequest& request, const AnswerForm& form, const Tokenizer& tokenizer) {
  Grammar::Shared grammar = TRY(grammar_of(request.options.form));
  const bool required = request.tool_use == ToolUse::kRequired;
  if (form.tools && (required || has_tool_grammar(*form.tools))) {
    const bool with_form = grammar != nullptr;
    const Grammar::Shared calls = TRY(tool_grammar(*form.tools, request.tools,
                                                   {.required = required || with_form,
                                                    .parallel = request.parallel_calls && request.named_tool.empty(),
                                                    .named = request.named_tool,
                                                    .tokenizer = &tokenizer}));
    const std::vector<Grammar::Shared> either{calls, grammar};
    grammar = with_form ? TRY(Grammar::any_of(either)) : calls;
  }
  // Free text may hold thoughts as it is, but no control tokens.
  const bool free = request.options.form.kind == OutputForm::Kind::kText && !required &&
                    !(form.reasoning && is_control(tokenizer, form.reasoning->close));
  if (grammar && form.reasoning && !free)
    return after_reasoning(*form.reasoning, form.in_reasoning, grammar, &tokenizer);
  return grammar;
}

struct Rendered {
  ChatPrompt prompt;
  std::string text;
};
Result<Rendered> rendered(const TextSide& text, const ChatRequest& request) {
  const std::string source(text.chat_template ? text.chat_template->source() : std::string_view());
  const bool with_tools = !request.tools.empty() && request.tool_use != ToolUse::kNone;
  Rendered out;
  out.text = TRY(render(text, request, source, with_tools));
  out.prompt.tokens = encode_prompt(*text.tokenizer, out.text);
  AnswerForm& form = out.prompt.form;
  form.reasoning = reasoning_tags(source);
  form.in_reasoning = form.reasoning && opens_reasoning(*form.reasoning, out.text);
  if (!with_tools) return out;
  form.tools = &tool_syntax(source);
  if (request.tool_use == ToolUse::kRequired && !has_tool_grammar(*form.tools)) form.tools = &generic_tool_syntax();
  for (const auto& tool : request.tools) form.names.emplace_back(tool.at("function").at("name").as_string());
  return out;
}

}  // namespace

Result<ChatPrompt> make_chat_prompt(const TextSide& text, const ChatRequest& request) {
  ChatPrompt prompt = TRY(rendered(text, request)).prompt;
  AnswerForm& form = prompt.form;
  prompt.grammar = TRY(grammar_for(request, form, *text.tokenizer));
  prompt.special = (form.tools && is_control(*text.tokenizer, form.tools->begin)) ||
                   (form.reasoning && is_control(*text.tokenizer, form.reasoning->close));
  return prompt;
}

Result<std::vector<Token>> chat_tokens(const TextSide& text, const ChatRequest& request) {
  return TRY(rendered(text, request)).prompt.tokens;
}

Result<std::vector<Token>> read_token_ids(const boost::json::array& ids, std::string_view path, int n_vocab) {
  std::vector<Token> tokens;
  tokens.reserve(ids.size());
  for (const auto& id : ids) {
    const bool fits = id.is_int64() && id.get_int64() >= 0 && id.get_int64() < n_vocab;
    if (!fits) return fail(Code::kInvalidArgument, "{}: need token ids below {}, got {}", path, n_vocab, kind_of(id));
    tokens.push_back(static_cast<Token>(id.get_int64()));
  }
  return tokens;
}

}  // namespace hearth::serve
