#include "power/energy_meter.h"

#include <algorithm>

namespace hearth::power {

void EnergyMeter::add(const Sample& sample) {
  constexpr double kStaleSeconds = 10;
  constexpr double kBusyMin = 0.05;  // cores; below, what is used is for other things than computing
  if (!last_) {
    last_ = sample;
    return;
  }
  const double passed = sample.seconds - last_->seconds;
  if (passed <= 0) return;
  const double own = std::max(0.0, sample.own_cpu_seconds - last_->own_cpu_seconds);
  const double busy = std::max(own, sample.busy_cpu_seconds - last_->busy_cpu_seconds);
  std::optional<double> used;
  if (sample.joules.there() && last_->joules.there() && sample.joules.problem.empty())
    used = sample.joules.value - last_->joules.value;
  else if (sample.battery_watts.there())
    used = sample.battery_watts.value * passed;
  if (used && *used > 0 && busy >= kBusyMin * passed) {
    const double found = *used / busy;
    const bool fresh = source_ != Source::kMeasured;
    joules_per_cpu_second_ += (fresh ? 1.0 : 0.3) * (found - joules_per_cpu_second_);
    source_ = Source::kMeasured, measured_at_ = sample.seconds;
  } else if (sample.seconds - measured_at_ > kStaleSeconds && source_ == Source::kMeasured) {
    source_ = Source::kEstimated;  // the last figure of this machine is a better guess than a figure for all
  }
  const double joules = own * joules_per_cpu_second_;
  joules_ += joules, watts_ = joules / passed;
  if (source_ == Source::kMeasured) measured_joules_ += joules;
  last_ = sample;
}

}  // namespace hearth::power
