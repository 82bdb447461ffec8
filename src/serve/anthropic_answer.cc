#include <boost/json/array.hpp>

#include "base/json.h"
#include "serve/anthropic.h"
#include "serve/error.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::object usage_of(const Usage& usage) {
  json::object out{{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
                   {"cache_read_input_tokens", usage.cached_tokens},
                   {"cache_creation_input_tokens", 0},
                   {"output_tokens", usage.completion_tokens}};
  add_own_usage(out, usage);
  return out;
}

class AnthropicWriter : public AnswerWriter {
 public:
  explicit AnthropicWriter(AnthropicFrame frame) : frame_(std::move(frame)), id_("msg_" + random_id()) {}

  std::string begin() override {
    json::object message = this->message(json::array());
    message["usage"] = usage_of({.prompt_tokens = frame_.prompt_tokens});
    return sent("message_start", {{"message", std::move(message)}});
  }

  std::string event(const Event& event) override {
    std::string out;  // one step after the other: operands of + have no order
    switch (event.kind) {
      case Event::Kind::kText:
        if (event.text.empty()) return {};
        out = in_block(Block::kText, {{"type", "text"}, {"text", ""}});
        return out += delta({{"type", "text_delta"}, {"text", event.text}});
      case Event::Kind::kReasoning:
        out = in_block(Block::kThinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
        return out += delta({{"type", "thinking_delta"}, {"thinking", event.text}});
      case Event::Kind::kCall:
        called_ = true;
        out = close();
        return out += in_block(Block::kTool, {{"type", "tool_use"},
                                              {"id", "toolu_" + event.id},
                                              {"name", event.text},
                                              {"input", json::object()}});
      case Event::Kind::kArguments:
        return delta({{"type", "input_json_delta"}, {"partial_json", event.text}});
      case Event::Kind::kCallEnd:
        return close();
      case Event::Kind::kFinish:
        finish_ = event.finish;
        return close();
    }
    return {};
  }

  std::string end(const Answer& totals) override {
    return sent("message_delta", {{"delta", ending(finish_, called_)}, {"usage", usage_of(totals.usage)}}) +
           sent("message_stop", {});
  }
  std::string failed(const Error& error) override {
    return server_event(error_body(Dialect::kAnthropic, http_status(error), error), "error");
  }

  json::object whole(const Answer& answer) override {
    const Choice& choice = answer.choices[0];
    json::array content;
    if (!choice.reasoning.empty())
      content.push_back({{"type", "thinking"}, {"thinking", choice.reasoning}, {"signature", ""}});
    if (!choice.text.empty()) content.push_back({{"type", "text"}, {"text", choice.text}});
    for (const Call& call : choice.calls)
      content.push_back({{"type", "tool_use"},
                         {"id", "toolu_" + call.id},
                         {"name", call.name},
                         {"input", parse_json(call.arguments).value_or(json::object())}});
    json::object out = message(std::move(content));
    for (const auto& member : ending(choice.finish, !choice.calls.empty())) out[member.key()] = member.value();
    out["usage"] = usage_of(answer.usage);
    return out;
  }

 private:
  enum class Block { kNone, kText, kThinking, kTool };

  static std::string sent(std::string_view type, json::object data) {
    data["type"] = type;
    return server_event(data, type);
  }
  [[nodiscard]] json::object message(json::array content) const {
    return {{"id", id_},          {"type", "message"},      {"role", "assistant"},     {"model", frame_.model},
            {"content", content}, {"stop_reason", nullptr}, {"stop_sequence", nullptr}};
  }
  [[nodiscard]] json::object ending(Finish finish, bool called) const {
    json::object out{{"stop_reason", "end_turn"}, {"stop_sequence", nullptr}};
    if (finish == Finish::kStop) {
      out["stop_reason"] = "stop_sequence";
      if (!frame_.stop.empty()) out["stop_sequence"] = frame_.stop;
    }
    if (called) out["stop_reason"] = "tool_use";
    if (is_cut_off(finish)) out["stop_reason"] = "max_tokens";
    return out;
  }
  std::string delta(json::object delta) const {
    return sent("content_block_delta", {{"index", index_}, {"delta", std::move(delta)}});
  }
  std::string close() {
    if (block_ == Block::kNone) return {};
    block_ = Block::kNone;
    return sent("content_block_stop", {{"index", index_++}});
  }
  std::string in_block(Block block, json::object start) {
    if (block_ == block) return {};
    std::string out = close();
    block_ = block;
    return out += sent("content_block_start", {{"index", index_}, {"content_block", std::move(start)}});
  }

  AnthropicFrame frame_;
  std::string id_;
  Block block_ = Block::kNone;
  int index_ = 0;
  bool called_ = false;
  Finish finish_ = Finish::kEnd;
};

}  // namespace

std::unique_ptr<AnswerWriter> anthropic_writer(AnthropicFrame frame) {
  return std::make_unique<AnthropicWriter>(std::move(frame));
}

}  // namespace hearth::serve
