// How the processor heats: two nodes, estimated while it runs.
//
//   die:  tau1 dT1/dt = (T2 + rise1 * load) - T1          in seconds; load 1 is everything the processor can do
//   case: tau2 dT2/dt = (ambient + rise2 * flow) - T2     in minutes; flow = (T1 - T2) / rise1 is what the die gives away
//
// The six figures (those five and where the case began) are fitted to the last minutes by simulating them (output error, which
// noise of the sensor does not bias), a sweep of small steps at a time. What a prediction is off by now is added to those to come,
// as in dynamic matrix control (Cutler and Ramaker, 1980), so that there is no lasting error.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

namespace hearth::power {

class HeatModel {
 public:
  enum Figure : uint8_t { kRise1, kTau1, kRise2, kTau2, kAmbient, kCaseAtFirst, kFigures };

  // The temperature at a time, and the mean load since the last one. Costs some 100 microseconds every few seconds.
  void add(double seconds, double temperature_c, double load);
  // Where a load leads to after so many seconds, from now on.
  [[nodiscard]] double predict(double load, double seconds) const;
  // The highest load at which no temperature of the next `seconds` is predicted above `limit_c`: 0 to 1.
  [[nodiscard]] double highest_load(double limit_c, double seconds) const;
  // The same by the model alone, without what it is off by now.
  [[nodiscard]] double simulated_c(double load, double seconds) const;
  [[nodiscard]] bool ready() const { return !history_.empty(); }
  [[nodiscard]] const std::array<double, kFigures>& figures() const { return figures_; }
  // That it has been fitted to.
  [[nodiscard]] double seconds() const { return ready() ? now_seconds_ - history_.front().seconds : 0; }
  // Root mean square of what the fit leaves, degrees.
  [[nodiscard]] double residual_c() const { return residual_c_; }

 private:
  struct Point {
    double seconds, temperature_c, load;
  };
  struct Nodes {
    double die, enclosure;
  };
  static void advance(Nodes& nodes, const std::array<double, kFigures>& figures, double load, double seconds);
  [[nodiscard]] double cost(const std::array<double, kFigures>& figures) const;
  void sweep();
  void restart();

  std::array<double, kFigures> figures_{}, steps_{};
  std::deque<Point> history_;  // kSpacing apart
  Nodes now_{};
  double pending_load_ = 0;  // times seconds, since the last of them
  double now_seconds_ = 0, offset_c_ = 0, swept_seconds_ = 0, first_ambient_ = 0, residual_c_ = 0;
};

}  // namespace hearth::power
