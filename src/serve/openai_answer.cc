#include "serve/openai_answer.h"

#include <boost/json/array.hpp>
#include <utility>

#include "serve/error.h"
#include "text/utf8.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::array bytes_of(std::string_view text) {
  json::array bytes;
  for (const char c : text) bytes.emplace_back(static_cast<unsigned char>(c));
  return bytes;
}

json::object shown_token(const Tokenizer& tokenizer, Token token, float logprob) {
  const std::string bytes = tokenizer.bytes(token, true, false);
  return {{"token", with_replacement(bytes)}, {"logprob", logprob}, {"bytes", bytes_of(bytes)}};
}

json::object chat_logprobs(const Tokenizer& tokenizer, const std::vector<TokenLogprob>& logprobs) {
  json::array content;
  for (const TokenLogprob& logprob : logprobs) {
    json::object shown = shown_token(tokenizer, logprob.token, logprob.logprob);
    json::array top;
    for (const auto& [token, value] : logprob.top) top.emplace_back(shown_token(tokenizer, token, value));
    shown["top_logprobs"] = std::move(top);
    content.emplace_back(std::move(shown));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json::object call_json(const Call& call) {
  return {{"id", "call_" + call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

class OpenAiWriter : public AnswerWriter {
 public:
  OpenAiWriter(OpenAiFrame frame, std::string_view id, std::string_view object)
      : frame_(std::move(frame)), id_(std::string(id) + frame_.id), object_(object) {}

  std::string end(const Answer& totals) override {
    json::object chunk = this->frame(chunk_object());
    chunk["choices"] = json::array();
    chunk["usage"] = openai_usage(totals.usage);
    chunk["timings"] = timings(totals.usage);
    return (frame_.include_usage ? server_event(chunk) : std::string()) + "data: [DONE]\n\n";
  }
  std::string failed(const Error& error) override {
    return server_event(error_body(Dialect::kOpenAi, http_status(error), error)) + "data: [DONE]\n\n";
  }

 protected:
  [[nodiscard]] virtual std::string chunk_object() const = 0;
  [[nodiscard]] json::object frame(std::string_view object) const {
    json::object out{{"id", id_},
                     {"object", object},
                     {"created", frame_.created},
                     {"model", frame_.model},
                     {"system_fingerprint", "hearth"}};
    if (!frame_.answered_by.empty()) out["hearth"] = {{"answered_by", frame_.answered_by}};
    return out;
  }
  [[nodiscard]] std::string chunk(json::object choice) const {
    json::object out = frame(chunk_object());
    out["choices"] = json::array{std::move(choice)};
    if (frame_.include_usage) out["usage"] = nullptr;
    return server_event(out);
  }
  json::object whole_of(json::array choices, const Answer& answer) const {
    json::object out = frame(object_);
    out["choices"] = std::move(choices);
    out["usage"] = openai_usage(answer.usage);
    out["timings"] = timings(answer.usage);
    return out;
  }

  OpenAiFrame frame_;
  std::string id_;
  std::string object_;
};

class ChatWriter : public OpenAiWriter {
 public:
  explicit ChatWriter(OpenAiFrame frame) : OpenAiWriter(std::move(frame), "chatcmpl-", "chat.completion") {}

  std::string event(const Event& event) override {
    const auto index = static_cast<size_t>(event.choice);
    if (choices_.size() <= index) choices_.resize(index + 1);
    std::string role;
    if (!choices_[index].begun) role = delta(event, {{"role", "assistant"}, {"content", ""}});
    choices_[index].begun = true;
    return role + body(event, choices_[index]);
  }

  json::object whole(const Answer& answer) override {
    json::array choices;
    for (const Choice& choice : answer.choices) {
      json::object message{{"role", "assistant"}, {"content", nullptr}};
      if (!choice.text.empty() || choice.calls.empty()) message["content"] = choice.text;
      if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
      json::array calls;
      for (const Call& call : choice.calls) calls.emplace_back(call_json(call));
      if (!calls.empty()) message["tool_calls"] = std::move(calls);
      json::object out{{"index", choices.size()}, {"message", std::move(message)}, {"logprobs", nullptr}};
      if (frame_.logprobs) out["logprobs"] = chat_logprobs(*frame_.tokenizer, choice.logprobs);
      out["finish_reason"] = openai_finish(choice.finish, !choice.calls.empty());
      choices.emplace_back(std::move(out));
    }
    return whole_of(std::move(choices), answer);
  }

 private:
  struct State {
    bool begun = false, called = false;
  };
  [[nodiscard]] std::string chunk_object() const override { return "chat.completion.chunk"; }
  std::string delta(const Event& event, json::object delta) const {
    return chunk({{"index", event.choice}, {"delta", std::move(delta)}, {"finish_reason", nullptr}});
  }
  std::string call_delta(const Event& event, json::object call) const {
    call["index"] = event.call;
    return delta(event, {{"tool_calls", json::array{std::move(call)}}});
  }

  std::string body(const Event& event, State& state) {
    switch (event.kind) {
      case Event::Kind::kText: {
        json::object choice{{"index", event.choice}, {"delta", {{"content", event.text}}}, {"finish_reason", nullptr}};
        if (frame_.logprobs) choice["logprobs"] = chat_logprobs(*frame_.tokenizer, event.logprobs);
        return chunk(std::move(choice));
      }
      case Event::Kind::kReasoning:
        return delta(event, {{"reasoning_content", event.text}});
      case Event::Kind::kCall: {
        state.called = true;
        return call_delta(event, call_json({.id = event.id, .name = event.text, .arguments = {}}));
      }
      case Event::Kind::kArguments:
        return call_delta(event, {{"function", {{"arguments", event.text}}}});
      case Event::Kind::kCallEnd:
        return {};
      case Event::Kind::kFinish:
        return chunk({{"index", event.choice},
                      {"delta", json::object()},
                      {"finish_reason", openai_finish(event.finish, state.called)}});
    }
    return {};
  }
  std::vector<State> choices_;
};

class CompletionWriter : public OpenAiWriter {
 public:
  CompletionWriter(OpenAiFrame frame, std::vector<EchoedPrompt> echo, int answers_each)
      : OpenAiWriter(std::move(frame), "cmpl-", "text_completion"),
        echo_(std::move(echo)),
        answers_each_(static_cast<size_t>(answers_each)) {}

  std::string begin() override {
    std::string out;
    for (size_t i = 0; i < echo_.size() * answers_each_; ++i)
      out += chunk(choice(static_cast<int>(i), echo_[i / answers_each_].text, {}, nullptr));
    return out;
  }
  std::string event(const Event& event) override {
    if (event.kind == Event::Kind::kFinish)
      return chunk(choice(event.choice, "", {}, json::value(openai_finish(event.finish, false))));
    return chunk(choice(event.choice, event.text, event.logprobs, nullptr));
  }
  json::object whole(const Answer& answer) override {
    json::array choices;
    for (size_t i = 0; i < answer.choices.size(); ++i) {
      const Choice& one = answer.choices[i];
      const std::string front = echo_.empty() ? std::string() : echo_[i / answers_each_].text;
      choices.emplace_back(
          choice(static_cast<int>(i), front + one.text, one.logprobs, json::value(openai_finish(one.finish, false))));
    }
    return whole_of(std::move(choices), answer);
  }

 private:
  [[nodiscard]] std::string chunk_object() const override { return object_; }
  json::object choice(int index, std::string_view text, const std::vector<TokenLogprob>& logprobs, json::value finish) {
    json::object out{{"index", index}, {"text", text}, {"logprobs", nullptr}, {"finish_reason", std::move(finish)}};
    if (frame_.logprobs) out["logprobs"] = this->logprobs(static_cast<size_t>(index), logprobs);
    return out;
  }
  json::object logprobs(size_t index, const std::vector<TokenLogprob>& logprobs) {
    if (told_.size() <= index) told_.resize(index + 1);
    Told& told = told_[index];
    json::array tokens, values, top, offsets;
    const auto add = [&](Token token) {
      tokens.emplace_back(with_replacement(frame_.tokenizer->bytes(token, true, false)));
      offsets.emplace_back(told.bytes);
      told.bytes += tokens.back().as_string().size();
    };
    if (!std::exchange(told.begun, true) && !echo_.empty()) {  // nothing came before it that could make it likely
      add(echo_[index / answers_each_].first);
      values.emplace_back(nullptr), top.emplace_back(nullptr);
    }
    for (const TokenLogprob& logprob : logprobs) {
      add(logprob.token);
      values.emplace_back(logprob.logprob);
      json::object alternatives;
      for (const auto& [token, value] : logprob.top)
        alternatives[with_replacement(frame_.tokenizer->bytes(token, true, false))] = value;
      top.emplace_back(std::move(alternatives));
    }
    return {{"tokens", tokens}, {"token_logprobs", values}, {"top_logprobs", top}, {"text_offset", offsets}};
  }

  std::vector<EchoedPrompt> echo_;
  size_t answers_each_;
  struct Told {  // of a choice's log probabilities
    bool begun = false;
    size_t bytes = 0;
  };
  std::vector<Told> told_;
};

}  // namespace

boost::json::object openai_usage(const Usage& usage) {
  json::object out{{"prompt_tokens", usage.prompt_tokens},
                   {"completion_tokens", usage.completion_tokens},
                   {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
                   {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
  add_own_usage(out, usage);
  return out;
}

boost::json::object timings(const Usage& usage) {
  constexpr double kMs = 1e3;
  auto per = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  const int ran = usage.prompt_tokens - usage.cached_tokens, made = usage.completion_tokens;
  boost::json::object out{{"cache_n", usage.cached_tokens},
                          {"prompt_n", ran},
                          {"prompt_ms", usage.prefill_seconds * kMs},
                          {"prompt_per_token_ms", per(usage.prefill_seconds * kMs, ran)},
                          {"prompt_per_second", per(ran, usage.prefill_seconds)},
                          {"predicted_n", made},
                          {"predicted_ms", usage.decode_seconds * kMs},
                          {"predicted_per_token_ms", per(usage.decode_seconds * kMs, made)},
                          {"predicted_per_second", per(made, usage.decode_seconds)},
                          {"queue_ms", usage.queue_seconds * kMs}};
  if (usage.drafted_tokens > 0) out["draft_n"] = usage.drafted_tokens, out["draft_n_accepted"] = usage.accepted_tokens;
  return out;
}

std::string_view openai_finish(Finish finish, bool called) {
  if (is_cut_off(finish)) return "length";
  return called ? "tool_calls" : "stop";
}

std::unique_ptr<AnswerWriter> openai_chat_writer(OpenAiFrame frame) {
  return std::make_unique<ChatWriter>(std::move(frame));
}
std::unique_ptr<AnswerWriter> openai_completion_writer(OpenAiFrame frame, std::vector<EchoedPrompt> echo,
                                                       int answers_each) {
  return std::make_unique<CompletionWriter>(std::move(frame), std::move(echo), answers_each);
}

}  // namespace hearth::serve
