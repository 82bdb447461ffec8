#include "serve/stream_place.h"

#include <algorithm>
#include <charconv>

#include "base/limits.h"

namespace hearth::serve {

std::string place_text(std::span<const int64_t> place) {
  std::string text;
  for (const int64_t count : place) text += fmt::format("{}{}", text.empty() ? "" : ".", count);
  return text;
}

Result<std::vector<int64_t>> parse_place(std::string_view text) {
  const std::string_view whole = text.substr(0, 100);
  std::vector<int64_t> place;
  do {
    const std::string_view part = text.substr(0, text.find('.'));
    int64_t count = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), count);
    if (part.empty() || error != std::errc() || end != part.data() + part.size() || count < 0 ||
        place.size() > limits::kChoices * limits::kChoices)
      return fail(Code::kInvalidArgument, "Last-Event-ID: '{}' is no id of an event, nor how many there were", whole);
    place.push_back(count);
    text.remove_prefix(part.size());
    if (text.starts_with('.') && text.size() > 1) text.remove_prefix(1);
  } while (!text.empty());
  return place;
}

StreamPlace::StreamPlace(int choices, std::vector<int64_t> told, bool numbered)
    : counts_(static_cast<size_t>(choices) + 1), told_(std::move(told)), numbered_(numbered), all_(told_.size() == 1) {
  if (told_.empty()) told_.resize(counts_.size());
}

Result<StreamPlace> StreamPlace::create(int choices, std::vector<int64_t> told, bool numbered) {
  const size_t slots = static_cast<size_t>(choices) + 1;
  if (!told.empty() && told.size() != slots && !(choices == 1 && told.size() == 1))
    return fail(Code::kInvalidArgument, "Last-Event-ID: has {} counts, this answer's events have {}", told.size(),
                slots);
  return StreamPlace(choices, std::move(told), numbered);
}

bool StreamPlace::is_told(size_t slot) {
  int64_t& left = told_[all_ ? 0 : slot];
  if (left == 0) return false;
  --left;
  return true;
}

std::string StreamPlace::pass(int choice, std::string_view events) {
  const auto slot = static_cast<size_t>(choice);
  std::string passed;
  while (!events.empty()) {
    const size_t end = std::min(events.find("\n\n"), events.size() - 1);
    const std::string_view event = events.substr(0, std::min(end + 2, events.size()));
    events.remove_prefix(event.size());
    ++counts_[slot];
    if (is_told(slot)) continue;
    if (numbered_) passed += fmt::format("id: {}\n", place_text(counts_));
    passed += event;
  }
  return passed;
}

}  // namespace hearth::serve
