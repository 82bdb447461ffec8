// Reads the sensors once a second, lets the policy decide, and tells engines how fast they may go. Knows no engine.
//
// Threads: everything may be called from any thread. One thread of its own, which sleeps.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/metrics.h"
#include "base/result.h"
#include "power/duty_cycle.h"
#include "power/energy_meter.h"
#include "power/policy.h"
#include "power/sensors.h"

namespace hearth::power {

// What a busy core takes where nothing can be measured: a guess for an estimate.
#if defined(__x86_64__)
inline constexpr double kWattsPerCore = 5;
#else
inline constexpr double kWattsPerCore = 1.5;
#endif

struct GovernorOptions {
  PolicyOptions policy{};
  SensorsOptions sensors{};
  double watts_per_core = kWattsPerCore;
  std::chrono::milliseconds period{1000};
  // Called on the governor's thread when all work waits and another machine could take over; with the reason. Empty: there is none.
  std::function<void(const std::string&)> hand_over{};
};

class Governor {
 public:
  static std::unique_ptr<Governor> start(GovernorOptions options);
  ~Governor();
  Governor(const Governor&) = delete;
  Governor& operator=(const Governor&) = delete;

  // Said among the decisions.
  void note(std::string text);
  // So many threads compute from now on; why is said there.
  void use_threads(int n_threads, std::string why);

  // What an app was told by its system, Android's AThermal_getThermalHeadroom: it counts for half a minute, or until the next.
  void tell_headroom(double headroom);

  // Whether new work may come in: kBusy with the reason.
  Result<void> admit() const;
  // Whether a smaller model should answer what comes in, of those who have one (PolicyOptions::has_smaller_model).
  bool wants_smaller_model() const;
  // After each step of an engine, which read and generated so many tokens, and ran so many guesses. What holds now, and how long to pause.
  struct Pace {
    double pause_seconds = 0, share = 1;
    int classes = kAllClasses, threads = 0, bits = 8, prefill_max = 1 << 20, drafts_max = -1;
  };
  Pace step_done(int read, int generated, int drafted = 0);
  // Of this process since the last call.
  struct Energy {
    double joules = 0;
    bool measured = false;
  };
  Energy take_energy();

  // State, sensors, decisions and why, for people and programs.
  [[nodiscard]] boost::json::object state() const;
  void write_metrics(Exposition& out) const;

 private:
  explicit Governor(GovernorOptions options);
  void work(const std::stop_token& stop);
  void tick();
  [[nodiscard]] bool is_late(double now) const;
  [[nodiscard]] Reading headroom(double now) const;

  GovernorOptions options_;
  Sensors sensors_;  // the thread's alone, once it runs
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  Policy policy_;
  EnergyMeter meter_;
  DutyCycle duty_;
  Sample sample_{};
  double decided_at_ = 0, taken_cpu_ = 0, handed_joules_ = 0;
  double step_cpu_ = 0;
  Work work_{};
  double headroom_ = 0, headroom_at_ = -1;  // negative: never
  bool told_late_ = false;
  std::jthread thread_;  // last
};

}  // namespace hearth::power
