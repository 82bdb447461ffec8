#include "engine/memory_policy.h"

#include <fmt/format.h>

#include <algorithm>

namespace hearth {
namespace {

// What a control group counts besides what a process has resident: page tables, sockets, pages just being read.
constexpr uint64_t kGroupRest = 32 << 20;

constexpr double kWindowSeconds = 1;
constexpr double kPressed = 0.10, kCalm = 0.01;  // parts of a window in which somebody waited for memory
constexpr double kStep = 0.1;                    // that is given up in a window under pressure
constexpr double kLoweredMost = 0.75;
constexpr double kPatienceSeconds = 10;  // of calm, before a step is taken back

}  // namespace

void MemoryPolicy::follow_pressure(const MemorySample& sample, uint64_t most) {
  if (!sample.stalled_seconds || !window_ || *sample.stalled_seconds < *window_->stalled_seconds) {
    window_ = sample.stalled_seconds ? std::optional(sample) : std::nullopt;
    calm_since_ = sample.seconds;
    return;
  }
  const double passed = sample.seconds - window_->seconds;
  if (passed < kWindowSeconds) return;
  const double stalled = (*sample.stalled_seconds - *window_->stalled_seconds) / passed;
  window_ = sample;
  if (stalled > kPressed) {
    // From what is in memory on, since to give up what was never taken helps nobody.
    const double used = most > 0 ? static_cast<double>(sample.resident_bytes) / static_cast<double>(most) : 0;
    lowered_by_ = std::min(kLoweredMost, std::max(lowered_by_, 1 - used) + kStep);
  }
  if (stalled > kCalm) calm_since_ = sample.seconds;
  if (sample.seconds - calm_since_ < kPatienceSeconds) return;
  lowered_by_ = std::max(0.0, lowered_by_ - kStep);
  calm_since_ = sample.seconds;
}

uint64_t MemoryPolicy::decide(const MemorySample& sample) {
  uint64_t most = asked_bytes_;
  reason_.clear();
  if (sample.group_limit_bytes) {
    const uint64_t left = *sample.group_limit_bytes - std::min(*sample.group_limit_bytes, kGroupRest);
    if (left < most) {
      most = left;
      reason_ = fmt::format("the control group has {} MiB", *sample.group_limit_bytes >> 20);
    }
  }
  follow_pressure(sample, most);
  if (lowered_by_ == 0) return most;
  reason_ = "programs have to wait for memory";
  return static_cast<uint64_t>(static_cast<double>(most) * (1 - lowered_by_));
}

}  // namespace hearth
