#include "model/expert_slots.h"

#include <cmath>

#include "base/check.h"

namespace hearth {

ExpertSlots::ExpertSlots(size_t n_experts, double half_life)
    : half_life_(half_life), scores_(n_experts), places_(n_experts, -1) {}

void ExpertSlots::resize(size_t n) {
  for (size_t i = n; i < slots_.size(); ++i)
    if (slots_[i].expert >= 0) places_[static_cast<size_t>(slots_[i].expert)] = -1;
  slots_.resize(n);
  for (Slot& slot : slots_) slot.held = false;
}

void ExpertSlots::pass(double rows) {
  weight_ *= std::exp2(rows / half_life_);
  constexpr double kLarge = 1e200;
  if (weight_ < kLarge) return;
  for (double& score : scores_) score /= weight_;
  weight_ = 1.0;
}

void ExpertSlots::use(size_t expert, int rows) { scores_[expert] += rows * weight_; }

std::optional<size_t> ExpertSlots::find(size_t expert) const {
  return places_[expert] < 0 ? std::nullopt : std::optional(static_cast<size_t>(places_[expert]));
}

std::optional<size_t> ExpertSlots::take(size_t expert) {
  CHECK(places_[expert] < 0);
  std::optional<size_t> best;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].held) continue;
    if (slots_[i].expert < 0) {
      best = i;
      break;
    }
    auto score = [&](size_t slot) { return scores_[static_cast<size_t>(slots_[slot].expert)]; };
    if (!best || score(i) < score(*best)) best = i;
  }
  if (!best) return best;
  Slot& slot = slots_[*best];
  if (slot.expert >= 0) places_[static_cast<size_t>(slot.expert)] = -1;
  slot = {.expert = static_cast<int64_t>(expert), .held = true};
  places_[expert] = static_cast<int64_t>(*best);
  return best;
}

}  // namespace hearth
