// Whether a machine that works for others should give that work away: too hot, or short of battery.
#pragma once

#include "power/sensors.h"

namespace hearth::power {

// Begins when it has been so for a few seconds, and ends when there has been none of it for a while: work that moves costs both sides
// something, so it must not move to and fro. What cannot be read is no reason. One thread at a time.
class Overload {
 public:
  struct Limits {
    double max_temperature_c = 0;  // 0: where the system itself would slow down
    double battery_floor = 10;     // percent, while it runs on the battery
  };
  explicit Overload(Limits limits) : limits_(limits) {}

  // As of this sample.
  bool update(const Sample& sample) {
    constexpr double kBeginsAfter = 3, kEndsAfter = 30, kCooler = 5, kFuller = 5;
    const double slack_c = is_ ? kCooler : 0, slack_percent = is_ ? kFuller : 0;
    const double most = limits_.max_temperature_c > 0 ? limits_.max_temperature_c
                        : sample.trip_c.there()       ? sample.trip_c.value
                                                      : 1e9;
    const bool hot = sample.temperature_c.there() && sample.temperature_c.value >= most - slack_c;
    const bool low = sample.on_battery && sample.battery_percent.there() &&
                     sample.battery_percent.value <= limits_.battery_floor + slack_percent;
    if ((hot || low) == is_)
      since_ = sample.seconds;
    else if (sample.seconds - since_ >= (is_ ? kEndsAfter : kBeginsAfter))
      is_ = !is_, since_ = sample.seconds;
    return is_;
  }

 private:
  const Limits limits_;
  bool is_ = false;
  double since_ = 0;  // the last sample that spoke for the state it is in
};

}  // namespace hearth::power
