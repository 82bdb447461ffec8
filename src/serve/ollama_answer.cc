#include <fmt/chrono.h>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "serve/error.h"
#include "serve/ollama.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

int64_t nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }
std::string line(const json::object& object) { return json::serialize(object) + "\n"; }

class OllamaWriter : public AnswerWriter {
 public:
  OllamaWriter(std::string model, bool generate) : model_(std::move(model)), generate_(generate) {}
  [[nodiscard]] std::string_view stream_type() const override { return "application/x-ndjson"; }

  std::string event(const Event& event) override {
    collect(event, choice_);
    switch (event.kind) {
      case Event::Kind::kText:
      case Event::Kind::kReasoning: {
        if (event.text.empty()) return {};
        const bool thinks = event.kind == Event::Kind::kReasoning;
        Choice part;
        (thinks ? part.reasoning : part.text) = event.text;
        return line(chunk(part));
      }
      case Event::Kind::kCallEnd:
        return line(chunk({.text = {}, .reasoning = {}, .calls = {choice_.calls.back()}, .logprobs = {}}));
      default:
        return {};
    }
  }
  std::string end(const Answer& totals) override {
    json::object last = chunk({});
    finish(last, choice_.finish, totals);
    return line(last);
  }
  std::string failed(const Error& error) override {
    return line(error_body(Dialect::kOllama, http_status(error), error));
  }

  json::object whole(const Answer& answer) override {
    json::object out = chunk(answer.choices[0]);
    finish(out, answer.choices[0].finish, answer);
    return out;
  }

 private:
  json::object chunk(const Choice& part) const {
    json::object out{{"model", model_}, {"created_at", iso_time(std::chrono::system_clock::now())}};
    if (generate_) {
      out["response"] = part.text;
      if (!part.reasoning.empty()) out["thinking"] = part.reasoning;
    } else {
      json::object message{{"role", "assistant"}, {"content", part.text}};
      if (!part.reasoning.empty()) message["thinking"] = part.reasoning;
      json::array calls;
      for (const Call& call : part.calls) calls.emplace_back(called(call, calls.size()));
      if (!calls.empty()) message["tool_calls"] = std::move(calls);
      out["message"] = std::move(message);
    }
    out["done"] = false;
    return out;
  }
  static json::object called(const Call& call, size_t index) {
    return {
        {"function",
         {{"name", call.name}, {"index", index}, {"arguments", parse_json(call.arguments).value_or(json::object())}}}};
  }
  static void finish(json::object& out, Finish finish, const Answer& totals) {
    out["done"] = true;
    out["done_reason"] = is_cut_off(finish) ? "length" : "stop";
    out["total_duration"] = nanoseconds(totals.total_seconds);
    out["load_duration"] = nanoseconds(totals.load_seconds);
    out["prompt_eval_count"] = totals.usage.prompt_tokens;
    out["prompt_eval_duration"] = nanoseconds(totals.usage.prefill_seconds);
    out["eval_count"] = totals.usage.completion_tokens;
    out["eval_duration"] = nanoseconds(totals.usage.decode_seconds);
  }

  std::string model_;
  bool generate_;
  Choice choice_;
};

}  // namespace

std::unique_ptr<AnswerWriter> ollama_writer(std::string model, bool generate) {
  return std::make_unique<OllamaWriter>(std::move(model), generate);
}

json::object ollama_loaded(std::string_view model, bool generate, std::string_view done_reason) {
  json::object out{{"model", model}, {"created_at", iso_time(std::chrono::system_clock::now())}};
  if (generate)
    out["response"] = "";
  else
    out["message"] = {{"role", "assistant"}, {"content", ""}};
  out["done"] = true;
  out["done_reason"] = done_reason;
  return out;
}

std::string iso_time(std::chrono::system_clock::time_point time) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  constexpr int64_t kMicros = 1'000'000;
  const auto whole = static_cast<std::time_t>(micros / kMicros);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(whole), micros % kMicros);
}

}  // namespace hearth::serve
