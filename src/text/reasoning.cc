#include "text/reasoning.h"

#include <algorithm>
#include <array>

namespace hearth {
namespace {

constexpr std::array kTags{
    ReasoningTags{"<think>", "</think>"},
    ReasoningTags{"[THINK]", "[/THINK]"},
    ReasoningTags{"<thought>", "</thought>"},
    ReasoningTags{"<reasoning>", "</reasoning>"},
    ReasoningTags{"<|START_THINKING|>", "<|END_THINKING|>"},
};
constexpr std::string_view kSpace = " \t\r\n";

size_t leading_space(std::string_view text) { return std::min(text.find_first_not_of(kSpace), text.size()); }
size_t trailing_space(std::string_view text) {
  const size_t last = text.find_last_not_of(kSpace);
  return last == std::string_view::npos ? text.size() : text.size() - last - 1;
}

}  // namespace

size_t begins_marker(std::string_view text, std::string_view marker) {
  if (marker.empty()) return 0;
  for (size_t n = std::min(marker.size() - 1, text.size()); n > 0; --n)
    if (text.ends_with(marker.substr(0, n))) return n;
  return 0;
}

const ReasoningTags* reasoning_tags(std::string_view template_source) {
  for (const ReasoningTags& tags : kTags)
    if (template_source.contains(tags.close)) return &tags;
  return nullptr;
}

bool opens_reasoning(const ReasoningTags& tags, std::string_view prompt) {
  prompt.remove_suffix(trailing_space(prompt));
  return prompt.ends_with(tags.open);
}

ReasoningSplitter::ReasoningSplitter(const ReasoningTags* tags, bool open)
    : tags_(tags),
      state_(!tags  ? State::kAnswer
             : open ? State::kReasoning
                    : State::kStart) {}

std::vector<ReasoningPart> ReasoningSplitter::push(std::string_view text) {
  std::vector<ReasoningPart> parts;
  held_ += text;
  while (step(parts, false)) {
  }
  return parts;
}

std::vector<ReasoningPart> ReasoningSplitter::finish() {
  std::vector<ReasoningPart> parts;
  while (step(parts, true)) {
  }
  return parts;
}

// Handles what can be decided of the held text; true if the state changed, so that there may be more.
bool ReasoningSplitter::step(std::vector<ReasoningPart>& parts, bool last) {
  const size_t space = leading_space(held_);
  switch (state_) {
    case State::kStart: {
      const std::string_view text = std::string_view(held_).substr(space);
      if (text.starts_with(tags_->open)) {
        held_.erase(0, space + tags_->open.size());
        state_ = State::kReasoning;
        return true;
      }
      if (!last && tags_->open.starts_with(text)) return false;
      state_ = State::kAnswer;
      return true;
    }
    case State::kReasoning:
      return in_reasoning(parts, last);
    case State::kAfter:
      held_.erase(0, space);
      if (held_.empty()) return false;
      state_ = State::kAnswer;
      return true;
    case State::kAnswer:
      if (!held_.empty()) parts.push_back({.reasoning = false, .text = std::move(held_)});
      held_.clear();
      return false;
  }
  return false;
}

bool ReasoningSplitter::in_reasoning(std::vector<ReasoningPart>& parts, bool last) {
  if (!thought_) held_.erase(0, leading_space(held_));
  const size_t end = held_.find(tags_->close);
  const bool closed = end != std::string::npos;
  size_t ready = closed ? end : held_.size();
  if (!closed && !last) ready -= begins_marker(held_, tags_->close);
  ready -= trailing_space(std::string_view(held_).substr(0, ready));
  if (ready > 0) {
    parts.push_back({.reasoning = true, .text = held_.substr(0, ready)});
    thought_ = true;
  }
  held_.erase(0, closed ? end + tags_->close.size() : last ? held_.size() : ready);
  if (closed) state_ = State::kAfter;
  return closed;
}

}  // namespace hearth
