// How long to pause so that a share of the processor time is kept to.
#pragma once

#include <algorithm>

namespace hearth::power {

// A balance in processor seconds: time brings share * threads a second, what was used is taken off. So whatever a step cost and
// however long a pause really was, the mean is right. What is saved up or owed is bounded: rest gives no right to a burst.
class DutyCycle {
 public:
  // After a step: the time, and the processor time used so far. Seconds to pause for.
  double pause(double now, double used, double share, int threads) {
    constexpr double kSavedSeconds = 0.05, kOwedSeconds = 20;
    const double rate = share * threads;
    if (began_) balance_ += rate * std::clamp(now - now_, 0.0, 60.0) - std::max(0.0, used - used_);
    began_ = true;
    now_ = now, used_ = used;
    if (share >= 1) balance_ = 0;
    balance_ = std::clamp(balance_, -rate * kOwedSeconds, rate * kSavedSeconds);
    return balance_ < 0 ? -balance_ / rate : 0;
  }

 private:
  bool began_ = false;
  double now_ = 0, used_ = 0, balance_ = 0;
};

}  // namespace hearth::power
