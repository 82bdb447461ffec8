#include <array>
#include <charconv>

#include "base/limits.h"
#include "serve/ollama.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

constexpr double kSecondsMax = 1e9;  // thirty years

// Go's form of durations: numbers with units, one after the other.
std::optional<double> duration_seconds(std::string_view text) {
  struct Unit {
    std::string_view name;
    double seconds;
  };
  constexpr std::array kUnits{Unit{"ns", 1e-9}, Unit{"us", 1e-6}, Unit{"ms", 1e-3},
                              Unit{"s", 1},     Unit{"m", 60},    Unit{"h", 3600}};
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return {};
  double total = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, failed] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (failed != std::errc()) return {};
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty() && total == 0) return negative ? -number : number;
    const Unit* unit = std::ranges::find_if(kUnits, [&](const Unit& u) { return text.starts_with(u.name); });
    if (unit == kUnits.end()) return {};
    text.remove_prefix(unit->name.size());
    total += number * unit->seconds;
  }
  return negative ? -total : total;
}

void read_format(Fields& body, OutputForm& form) {
  const auto* format = body.find("format");
  form = {};
  if (!format) return;
  if (format->is_string() && format->get_string().empty()) return;
  form.field = "format";
  if (format->is_string() && format->get_string() == "json") {
    form.kind = OutputForm::Kind::kJsonObject;
  } else if (format->is_object()) {
    form.kind = OutputForm::Kind::kSchema;
    form.schema = *format;
  } else {
    body.wrong("format", "need \"json\" or a schema");
  }
}

void read_think(Fields& body, ChatRequest& chat) {
  const auto* think = body.find("think");
  if (!think) return;
  if (think->is_string()) chat.template_arguments["reasoning_effort"] = think->get_string();
  if (!think->is_string() && !think->is_bool()) return body.wrong("think", "need true, false or a level");
  chat.template_arguments["enable_thinking"] = think->is_string() || think->get_bool();
}

void refuse_images(Fields& fields) {
  if (const auto* images = fields.array("images"); images && !images->empty()) fields.wrong("images", kTextOnly);
}

void read_options(Fields& body, OllamaRequest& request) {
  ChatRequest& chat = request.chat;
  chat.model = body.text("model").value_or("");
  if (chat.model.empty()) body.wrong("model", "is missing");
  if (const auto* given = body.object("options")) {
    Fields options(*given, "options");
    read_answer_options(options, chat.options);
    options.integer("num_ctx", 0, INT32_MAX);  // the context is fixed when the model is loaded
    if (const auto most = options.integer("num_predict", -2, limits::kContext))
      chat.options.max_tokens = std::max(-1, static_cast<int>(*most));
    if (const auto window = options.integer("repeat_last_n", -1, INT32_MAX))
      chat.options.sampling.penalty_window = static_cast<int>(*window);
    if (const auto checked = options.check(); !checked) body.wrong(checked.error());
  }
  read_scheduling(body, chat.options);
  chat.options.n = 1;
  chat.options.logprobs = -1;
  chat.options.stream = body.flag("stream").value_or(true);
  read_format(body, chat.options.form);
  read_think(body, chat);
  refuse_images(body);
  request.keep_alive = read_keep_alive(body);
}

// Differs from OpenAI's form in calls without ids and in names of results.
Result<json::array> ollama_messages(const json::array& messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    Fields message(messages[i], fmt::format("messages[{}]", i));
    refuse_images(message);
    TRY(message.check());
  }
  json::array out = messages;
  for (auto& value : out) {
    auto& message = value.as_object();
    if (!message.contains("content")) message["content"] = "";
    if (const auto* name = message.if_contains("tool_name"); name && name->is_string())
      message["name"] = json::value(*name);  // a copy first: the new key may move the old ones
  }
  return read_messages(out);
}

}  // namespace

std::optional<std::chrono::seconds> read_keep_alive(Fields& body) {
  const auto* given = body.find("keep_alive");
  if (!given) return {};
  std::optional<double> seconds;
  if (given->is_string()) seconds = duration_seconds(given->get_string());
  if (given->is_number()) seconds = given->to_number<double>();
  if (!seconds) {
    body.wrong("keep_alive", "need a duration as \"5m\" or a number of seconds");
    return {};
  }
  if (*seconds < 0) return std::chrono::seconds(-1);
  return std::chrono::seconds(static_cast<int64_t>(std::min(*seconds, kSecondsMax)));
}

Result<OllamaRequest> read_ollama_chat(const json::value& value) {
  Fields body(value, "");
  OllamaRequest request;
  read_options(body, request);
  const auto* messages = body.array("messages");
  const auto* tools = body.array("tools");
  TRY(body.check());
  request.only_loads = !messages || messages->empty();
  if (!request.only_loads) request.chat.messages = TRY(ollama_messages(*messages));
  if (tools) request.chat.tools = TRY(read_tools(*tools));
  return request;
}

Result<OllamaRequest> read_ollama_generate(const json::value& value) {
  Fields body(value, "");
  OllamaRequest request;
  request.generate = true;
  read_options(body, request);
  request.raw = body.flag("raw").value_or(false);
  request.prompt = body.text("prompt").value_or("");
  const std::string system = body.text("system").value_or("");
  if (!body.text("suffix").value_or("").empty()) body.wrong("suffix", "this server does not fill in the middle");
  if (!body.text("template").value_or("").empty()) body.wrong("template", "the model's own template is used");
  TRY(body.check());
  request.only_loads = request.prompt.empty();
  if (!system.empty()) request.chat.messages.push_back({{"role", "system"}, {"content", system}});
  request.chat.messages.push_back({{"role", "user"}, {"content", request.prompt}});
  return request;
}

}  // namespace hearth::serve
