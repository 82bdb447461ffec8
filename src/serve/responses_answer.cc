#include <boost/json/array.hpp>
#include <ctime>

#include "serve/error.h"
#include "serve/responses.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::object usage_of(const Usage& usage) {
  json::object out{{"input_tokens", usage.prompt_tokens},
                   {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                   {"output_tokens", usage.completion_tokens},
                   {"output_tokens_details", {{"reasoning_tokens", 0}}},
                   {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
  add_own_usage(out, usage);
  return out;
}

// An item of the output on its way: thoughts, a message or a call. Answers are lists of these, whole or event by event.
struct Item {
  enum class Kind { kReasoning, kMessage, kCall } kind = Kind::kMessage;
  std::string id, call_id, name, text;  // text: of the message, the thoughts or the arguments

  [[nodiscard]] json::object part() const {
    if (kind == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"}, {"text", text}, {"annotations", json::array()}, {"logprobs", json::array()}};
  }
  [[nodiscard]] json::object shown(std::string_view status) const {
    json::object out{{"id", id}, {"status", status}};
    const bool begun = status != "in_progress";
    if (kind == Kind::kCall) {
      out["type"] = "function_call";
      out["call_id"] = call_id, out["name"] = name, out["arguments"] = text;
      return out;
    }
    json::array content;
    if (begun) content.emplace_back(part());
    out["content"] = std::move(content);
    out["type"] = kind == Kind::kMessage ? "message" : "reasoning";
    if (kind == Kind::kMessage) out["role"] = "assistant";
    if (kind == Kind::kReasoning) out["summary"] = json::array();
    return out;
  }
};

class ResponsesWriter : public AnswerWriter {
 public:
  ResponsesWriter(std::string model, int64_t created, json::object request)
      : model_(std::move(model)), created_(created), request_(std::move(request)), id_("resp_" + random_id()) {}

  std::string begin() override {
    std::string out = sent("response.created", {{"response", response("in_progress")}});
    return out += sent("response.in_progress", {{"response", response("in_progress")}});
  }

  std::string event(const Event& event) override {
    std::string out;
    switch (event.kind) {
      case Event::Kind::kText:
        return event.text.empty() ? std::string() : add(Item::Kind::kMessage, event.text);
      case Event::Kind::kReasoning:
        return add(Item::Kind::kReasoning, event.text);
      case Event::Kind::kCall:
        out = close("completed");  // before it: operands of + have no order
        return out += open({.kind = Item::Kind::kCall,
                            .id = "fc_" + event.id,
                            .call_id = "call_" + event.id,
                            .name = event.text,
                            .text = {}});
      case Event::Kind::kArguments:
        item_.text += event.text;
        return of_item("response.function_call_arguments.delta", {{"delta", event.text}}, false);
      case Event::Kind::kCallEnd:
        return close("completed");
      case Event::Kind::kFinish:
        finish_ = event.finish;
        return close(is_cut_off(finish_) ? "incomplete" : "completed");
    }
    return {};
  }

  std::string end(const Answer& totals) override {
    return sent(is_cut_off(finish_) ? "response.incomplete" : "response.completed", {{"response", ended(totals)}});
  }
  std::string failed(const Error& error) override {
    json::object data = error_body(Dialect::kOpenAi, http_status(error), error).at("error").as_object();
    return sent("error", std::move(data));
  }

  // The events of a whole answer, for what they leave behind.
  json::object whole(const Answer& answer) override {
    const Choice& choice = answer.choices[0];
    if (!choice.reasoning.empty()) event({.kind = Event::Kind::kReasoning, .text = choice.reasoning});
    event({.text = choice.text});
    for (const Call& call : choice.calls) {
      event({.kind = Event::Kind::kCall, .text = call.name, .id = call.id});
      event({.kind = Event::Kind::kArguments, .text = call.arguments});
      event({.kind = Event::Kind::kCallEnd});
    }
    event({.kind = Event::Kind::kFinish, .finish = choice.finish});
    return ended(answer);
  }

 private:
  std::string sent(std::string_view type, json::object data) {
    data["type"] = type;
    data["sequence_number"] = sequence_++;
    return server_event(data, type);
  }
  std::string of_item(std::string_view type, json::object data, bool in_content) {
    data["item_id"] = item_.id;
    data["output_index"] = output_.size();
    if (in_content) data["content_index"] = 0;
    return sent(type, std::move(data));
  }

  std::string add(Item::Kind kind, const std::string& text) {
    std::string out;
    if (!open_ || item_.kind != kind) {
      out = close("completed");
      const bool message = kind == Item::Kind::kMessage;
      out +=
          open({.kind = kind, .id = (message ? "msg_" : "rs_") + random_id(), .call_id = {}, .name = {}, .text = {}});
      out += of_item("response.content_part.added", {{"part", item_.part()}}, true);
    }
    item_.text += text;
    json::object data{{"delta", text}};
    if (kind == Item::Kind::kMessage) data["logprobs"] = json::array();
    return out + of_item(fmt::format("response.{}.delta", text_name()), std::move(data), true);
  }
  [[nodiscard]] std::string_view text_name() const {
    return item_.kind == Item::Kind::kReasoning ? "reasoning_text" : "output_text";
  }

  std::string open(Item item) {
    item_ = std::move(item);
    open_ = true;
    return of_item("response.output_item.added", {{"item", item_.shown("in_progress")}}, false);
  }
  std::string close(std::string_view status) {
    if (!open_) return {};
    open_ = false;
    std::string out;
    if (item_.kind == Item::Kind::kCall) {
      // One that was cut off is no call: its arguments may be no JSON.
      out = of_item("response.function_call_arguments.done", {{"arguments", item_.text}, {"name", item_.name}}, false);
    } else {
      json::object done{{"text", item_.text}};
      if (item_.kind == Item::Kind::kMessage) done["logprobs"] = json::array();
      out = of_item(fmt::format("response.{}.done", text_name()), std::move(done), true);
      out += of_item("response.content_part.done", {{"part", item_.part()}}, true);
    }
    out += of_item("response.output_item.done", {{"item", item_.shown(status)}}, false);
    output_.emplace_back(item_.shown(status));
    return out;
  }

  [[nodiscard]] json::object response(std::string_view status) const {
    json::object out{
        {"id", id_},       {"object", "response"}, {"created_at", created_}, {"status", status},
        {"model", model_}, {"output", output_},    {"error", nullptr},       {"incomplete_details", nullptr},
        {"usage", nullptr}};
    for (const std::string_view name : {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls",
                                        "temperature", "text", "tool_choice", "tools", "top_p", "user"}) {
      const auto* given = request_.if_contains(name);
      out[name] = given ? *given : json::value(nullptr);
    }
    if (out["parallel_tool_calls"].is_null()) out["parallel_tool_calls"] = true;
    if (out["tool_choice"].is_null()) out["tool_choice"] = "auto";
    if (out["tools"].is_null()) out["tools"] = json::array();
    return out;
  }
  [[nodiscard]] json::object ended(const Answer& totals) const {
    const bool cut = is_cut_off(finish_);
    json::object out = response(cut ? "incomplete" : "completed");
    if (cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
    out["usage"] = usage_of(totals.usage);
    return out;
  }

  std::string model_;
  int64_t created_;
  json::object request_;
  std::string id_;
  json::array output_;
  Item item_;
  bool open_ = false;
  int64_t sequence_ = 0;
  Finish finish_ = Finish::kEnd;
};

}  // namespace

std::unique_ptr<AnswerWriter> responses_writer(std::string model, int64_t created, json::object request) {
  return std::make_unique<ResponsesWriter>(std::move(model), created, std::move(request));
}

}  // namespace hearth::serve
