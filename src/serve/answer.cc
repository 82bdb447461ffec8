#include "serve/answer.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <random>

namespace hearth::serve {

bool is_cut_off(Finish finish) {
  return finish == Finish::kLength || finish == Finish::kContext || finish == Finish::kDeadline;
}

EventReader::EventReader(const AnswerForm& form, int choice, std::vector<std::string> drop, std::string id)
    : choice_(choice),
      id_(std::move(id)),
      has_tools_(form.tools != nullptr),
      reasoning_(form.reasoning, form.in_reasoning),
      tools_(form.tools ? *form.tools : generic_tool_syntax(), form.names),
      drop_(std::move(drop)) {}

std::string EventReader::without_ends(std::string_view text, bool last) {
  if (drop_.empty()) return std::string(text);
  held_ += text;
  for (const std::string& end : drop_)
    for (size_t at = held_.find(end); at != std::string::npos; at = held_.find(end)) held_.erase(at, end.size());
  size_t waits = 0;
  for (const std::string& end : drop_) waits = std::max(waits, last ? 0 : begins_marker(held_, end));
  std::string ready = held_.substr(0, held_.size() - waits);
  held_.erase(0, ready.size());
  return ready;
}

std::vector<Event> EventReader::read(const Piece& piece) {
  std::vector<Event> events;
  split(reasoning_.push(without_ends(piece.text, piece.done)), events);
  if (piece.done) {
    split(reasoning_.finish(), events);
    if (has_tools_) add(tools_.finish(), events);
  }
  if (!piece.logprobs.empty()) {
    auto text = std::ranges::find(events, Event::Kind::kText, &Event::kind);
    if (text == events.end()) text = events.insert(events.begin(), Event{.choice = choice_});
    text->logprobs = piece.logprobs;
  }
  if (piece.done) events.push_back({.kind = Event::Kind::kFinish, .choice = choice_, .finish = piece.finish});
  return events;
}

void EventReader::split(std::vector<ReasoningPart> parts, std::vector<Event>& events) {
  for (ReasoningPart& part : parts) {
    if (part.reasoning)
      events.push_back({.kind = Event::Kind::kReasoning, .choice = choice_, .text = std::move(part.text)});
    else if (has_tools_)
      add(tools_.push(part.text), events);
    else
      events.push_back({.choice = choice_, .text = std::move(part.text)});
  }
}

void EventReader::add(std::vector<ToolPart> parts, std::vector<Event>& events) {
  for (ToolPart& part : parts) {
    Event event{.choice = choice_, .call = calls_ - 1, .text = std::move(part.text)};
    switch (part.kind) {
      case ToolPart::Kind::kText:
        break;
      case ToolPart::Kind::kCall:
        event.kind = Event::Kind::kCall;
        event.call = calls_++;
        event.id = fmt::format("{}{:02x}{:x}", id_, choice_, event.call);
        break;
      case ToolPart::Kind::kArguments:
        event.kind = Event::Kind::kArguments;
        break;
      case ToolPart::Kind::kCallEnd:
        event.kind = Event::Kind::kCallEnd;
        break;
    }
    events.push_back(std::move(event));
  }
}

void collect(const Event& event, Choice& choice) {
  switch (event.kind) {
    case Event::Kind::kText:
      choice.text += event.text;
      std::ranges::copy(event.logprobs, std::back_inserter(choice.logprobs));
      break;
    case Event::Kind::kReasoning:
      choice.reasoning += event.text;
      break;
    case Event::Kind::kCall:
      choice.calls.push_back({.id = event.id, .name = event.text, .arguments = {}});
      break;
    case Event::Kind::kArguments:
      choice.calls.back().arguments += event.text;
      break;
    case Event::Kind::kCallEnd:
      choice.calls.back().whole = true;
      break;
    case Event::Kind::kFinish:
      choice.finish = event.finish;
      std::erase_if(choice.calls, [](const Call& call) { return !call.whole; });
      break;
  }
}

void add_own_usage(boost::json::object& usage_json, const Usage& usage) {
  if (usage.row_bits < 32) usage_json["row_bits"] = usage.row_bits;
  if (usage.exit_kld_max > 0)
    usage_json["early_exit"] = {
        {"kld_max", usage.exit_kld_max}, {"layers_saved", usage.exit_layers}, {"tokens", usage.exited_tokens}};
  if (usage.joules < 0) return;
  usage_json["joules"] = usage.joules;
  usage_json["joules_source"] = joules_source(usage);
  if (usage.bits_lowered) usage_json["bits_lowered"] = true;
}

std::string random_id() {
  std::random_device device;
  const uint64_t high = device(), low = device(), more = device();
  return fmt::format("{:08x}{:08x}{:08x}", high, low, more);
}

std::string server_event(const boost::json::object& data, std::string_view type) {
  const std::string head = type.empty() ? std::string() : fmt::format("event: {}\n", type);
  return fmt::format("{}data: {}\n\n", head, boost::json::serialize(data));
}

}  // namespace hearth::serve
