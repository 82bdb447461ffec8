// What this process's work costs: joules for a second of processor time.
#pragma once

#include <optional>

#include "power/sensors.h"

namespace hearth::power {

// The energy that the packages' counters tell, or else what the battery gives, divided by the processor time of everybody: so a process
// is charged with its part of what was measured, of rest as well. Without either, a figure for each busy core, and marked so.
class EnergyMeter {
 public:
  explicit EnergyMeter(double watts_per_core) : joules_per_cpu_second_(watts_per_core) {}
  void add(const Sample& sample);
  [[nodiscard]] double joules_per_cpu_second() const { return joules_per_cpu_second_; }
  [[nodiscard]] Source source() const { return source_; }
  // Of this process since the first sample; how much of it was measured.
  [[nodiscard]] double joules() const { return joules_; }
  [[nodiscard]] double measured_joules() const { return measured_joules_; }
  [[nodiscard]] double watts() const { return watts_; }  // lately

 private:
  double joules_per_cpu_second_;
  Source source_ = Source::kEstimated;
  double joules_ = 0, measured_joules_ = 0, watts_ = 0, measured_at_ = -1e9;
  std::optional<Sample> last_{};
};

}  // namespace hearth::power
