#include "cluster/stage_steps.h"

#include <algorithm>

namespace hearth::cluster {

bool StageSteps::begin(uint64_t epoch) {
  if (epoch <= epoch_) return false;
  epoch_ = epoch;
  next_ = 1;
  sent_.clear();
  return true;
}

StageSteps::Do StageSteps::on_step(uint64_t epoch, uint64_t step) {
  if (epoch != epoch_) {
    ++refused_;
    return Do::kIgnore;
  }
  if (step == next_) return Do::kRun;
  return step < next_ && !answer(step).empty() ? Do::kRepeat : Do::kIgnore;
}

void StageSteps::ran(uint64_t step, std::vector<std::byte> sent) {
  next_ = step + 1;
  sent_.push_back({step, std::move(sent)});
  if (sent_.size() > ChainOwner::kWindow) sent_.pop_front();
}

std::span<const std::byte> StageSteps::answer(uint64_t step) const {
  const auto found = std::ranges::find(sent_, step, &Sent::step);
  return found == sent_.end() ? std::span<const std::byte>() : found->bytes;
}

}  // namespace hearth::cluster
