// A machine that heats, throttles and runs empty, in virtual time: what power policies are tried on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "power/policy.h"

namespace hearth::test {

// Two nodes in joules and degrees: die (c1) to case (c2) to the air. More than the policy's model knows: leaking current that grows
// with heat, a sensor with noise that tells whole degrees or tenths, a system that throttles.
struct Plant {
  std::string_view name;
  double idle_watts, full_watts, r1, c1, r2, c2;  // K/W, J/K
  double trip_c, sensor_step_c, sensor_noise_c;
};
inline constexpr Plant kPlants[] = {
    {"phone", 0.3, 6, 5, 1, 9, 55, 75, 0.1, 0.2},
    {"gateway", 1, 10, 3, 5, 4, 150, 80, 1, 0.3},
    {"mini-pc", 3, 28, 1.2, 3.3, 1.3, 190, 90, 1, 0.5},
};

// What the system does at the trip point: so slow a clock for so long, and until it is 15 degrees cooler. Phones and laptops are
// reported to lose 50 to 80 % of their speed, for minutes: two thirds, or half and shorter.
struct Throttle {
  double clock, seconds;
};
inline constexpr Throttle kThrottle{0.25, 120}, kMildThrottle{0.42, 60};

class SimulatedMachine {
 public:
  static constexpr int kThreads = 4;
  // Generating with so many of them, as where memory is what it waits for.
  static constexpr double kSpeeds[] = {0, 0.42, 0.74, 0.92, 1};

  SimulatedMachine(const Plant& plant, double ambient_c, unsigned seed, Throttle throttle = kThrottle)
      : plant_(plant), throttle_(throttle), ambient_(ambient_c), die_(ambient_c), enclosure_(ambient_c), random_(seed) {
    advance(0, 600);  // it has been idle
    seconds_ = cpu_seconds_ = tokens_ = 0;
    hottest_ = die_;
  }
  // So many seconds in which steps have this share of the time.
  // `share` is of the time of all kThreads, of which so many run.
  void advance(double share, double seconds, int threads = kThreads) {
    const double duty = std::min(1.0, share * kThreads / threads);
    share = duty * threads / kThreads;
    const double speed = duty * kSpeeds[threads];
    constexpr double kStep = 0.2;
    for (double left = seconds; left > kStep / 2; left -= kStep) {
      const double leak = 1 + 0.003 * (die_ - 50);
      const double rate = speed * std::pow(clock_, 0.8);
      const double dynamic = 0.75 * share * std::pow(clock_, 2.2) + 0.25 * rate;  // cores, memory
      const double watts = leak * (plant_.idle_watts + (plant_.full_watts - plant_.idle_watts) * dynamic);
      const double flow = (die_ - enclosure_) / plant_.r1;
      die_ += (watts - flow) * kStep / plant_.c1;
      enclosure_ += (flow - (enclosure_ - ambient_) / plant_.r2) * kStep / plant_.c2;
      seconds_ += kStep;
      cpu_seconds_ += share * kStep;
      joules_ += watts * kStep;
      tokens_ += rate * kStep;
      hottest_ = std::max(hottest_, die_);
      throttle_if_hot();
    }
  }
  power::Sample sample() {
    power::Sample sample{.seconds = seconds_};
    const double noise = std::normal_distribution<double>(0, plant_.sensor_noise_c)(random_);
    sample.temperature_c = {std::floor((die_ + noise) / plant_.sensor_step_c) * plant_.sensor_step_c,
                            power::Source::kMeasured};
    sample.trip_c = {plant_.trip_c, power::Source::kMeasured};
    sample.own_cpu_seconds = sample.busy_cpu_seconds = cpu_seconds_ * kThreads;
    return sample;
  }
  // Since the last call; 30 tokens a second at full speed.
  power::Work work() {
    power::Work work;
    work.generated = work.tokens = 30 * (tokens_ - worked_tokens_);
    work.generating_cpu_seconds = kThreads * (cpu_seconds_ - worked_cpu_);
    worked_tokens_ = tokens_, worked_cpu_ = cpu_seconds_;
    return work;
  }
  [[nodiscard]] double die_c() const { return die_; }
  [[nodiscard]] double case_c() const { return enclosure_; }
  [[nodiscard]] double hottest_c() const { return hottest_; }
  [[nodiscard]] double tokens() const { return tokens_; }  // 1 a second at full speed
  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] double throttled_seconds() const { return throttled_; }

 private:
  void throttle_if_hot() {
    if (die_ >= plant_.trip_c) clock_ = throttle_.clock, throttled_at_ = seconds_;
    if (clock_ < 1) throttled_ += 0.2;
    if (clock_ < 1 && die_ < plant_.trip_c - 15 && seconds_ - throttled_at_ > throttle_.seconds) clock_ = 1;
  }

  const Plant& plant_;
  Throttle throttle_;
  double ambient_, die_, enclosure_, clock_ = 1, throttled_at_ = 0, throttled_ = 0;
  double seconds_ = 0, cpu_seconds_ = 0, joules_ = 0, tokens_ = 0, hottest_ = 0, worked_tokens_ = 0, worked_cpu_ = 0;
  std::mt19937 random_;
};

// Rows of a run for the plots of docs/power.md, if $HEARTH_POWER_CSV names a folder.
class RunRecord {
 public:
  RunRecord(const std::string& name, const char* head) {
    if (const char* folder = std::getenv("HEARTH_POWER_CSV"); folder != nullptr)
      file_ = std::fopen((std::string(folder) + "/" + name + ".csv").c_str(), "w");
    if (file_ != nullptr) std::fprintf(file_, "%s\n", head);
  }
  RunRecord(const RunRecord&) = delete;
  RunRecord& operator=(const RunRecord&) = delete;
  ~RunRecord() {
    if (file_ != nullptr) std::fclose(file_);
  }
  void row(double a, double b, double c, double d) {
    if (file_ != nullptr) std::fprintf(file_, "%.1f,%.3f,%.3f,%.4f\n", a, b, c, d);
  }

 private:
  std::FILE* file_ = nullptr;
};

}  // namespace hearth::test
