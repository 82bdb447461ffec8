#include "power/draft_choice.h"

#include <utility>

namespace hearth::power {

void DraftChoice::add(double seconds, double tokens, double drafted, double joules) {
  constexpr double kTokens = 30, kSeconds = 4;  // of a window
  tokens_ += tokens, drafted_ += drafted, joules_ += joules;
  if (tokens_ < kTokens || seconds - began_ < kSeconds || joules_ <= 0) return;
  // With guesses allowed and none made there was nothing to measure.
  if (!now_ || drafted_ > 0) seen_[now_ ? 1 : 0] = {joules_ / tokens_, seconds};
  const bool any = drafted_ > 0;
  tokens_ = drafted_ = joules_ = 0, began_ = seconds;
  const auto& [without, with] = seen_;
  constexpr double kBetter = 0.97, kStaleSeconds = 120;
  if (without.at > 0 && with.at > 0) {
    if (without.joules_per_token < kBetter * with.joules_per_token) without_ = true;
    if (with.joules_per_token < kBetter * without.joules_per_token) without_ = false;
  }
  const Seen& other = seen_[without_ ? 1 : 0];
  trying_ =
      !std::exchange(trying_, false) && (other.at == 0 || seconds - other.at > kStaleSeconds) && (without_ || any);
}

bool DraftChoice::choose(double seconds, bool each_row_counts) {
  const bool guess = !each_row_counts || without_ == trying_;
  if (!each_row_counts) trying_ = without_ = false;
  if (guess != now_) tokens_ = drafted_ = joules_ = 0, began_ = seconds;
  now_ = guess;
  return guess;
}

}  // namespace hearth::power
