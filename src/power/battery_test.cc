// On battery: the floor is never crossed by work, and what has to wait is done when there is power again.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>

#include "power/policy.h"
#include "support/simulated_machine.h"

namespace hearth::power {
namespace {

// A battery whose gauge tells whole percents, once a minute.
struct SimulatedBattery {
  double capacity_joules, charge_joules, full_watts, rest_watts;
  double told_percent = 0, told_at = -1e9;
  void advance(double share, double seconds, bool plugged) {
    const double watts = plugged ? -full_watts : rest_watts + (full_watts - rest_watts) * share;
    charge_joules = std::clamp(charge_joules - watts * seconds, 0.0, capacity_joules);
  }
  [[nodiscard]] double percent() const { return 100 * charge_joules / capacity_joules; }
  double gauge(double now) {
    if (now - told_at >= 60) told_percent = std::floor(percent()), told_at = now;
    return told_percent;
  }
};

// Jobs of two classes, each so many seconds of the whole processor.
struct Jobs {
  std::deque<double> interactive, batch;
  int submitted = 0, refused = 0, done = 0;
  // What runs of them in a second in which the policy allows a share and classes; the share that was used.
  double run(const Settings& settings) {
    double left = settings.share;
    const auto serve = [&](std::deque<double>& queue) {
      while (left > 0 && !queue.empty()) {
        const double part = std::min(left, queue.front());
        left -= part, queue.front() -= part;
        if (queue.front() <= 1e-9) queue.pop_front(), ++done;
      }
    };
    if (settings.classes > 1) serve(interactive);
    if (settings.classes > 2) serve(batch);
    return settings.share - left;
  }
};

struct Outcome {
  double lowest_percent = 100;
  int deferred = 0;
  Jobs jobs;
};

Outcome run(unsigned seed, const std::string& record = {}) {
  constexpr double kFloor = 15;
  std::mt19937 random(seed);
  const auto between = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const double watt_hours = between(5, 60), full_watts = watt_hours * between(0.2, 1.5);
  SimulatedBattery battery{.capacity_joules = 3600 * watt_hours,
                           .charge_joules = 3600 * watt_hours * 0.2,
                           .full_watts = full_watts,
                           .rest_watts = watt_hours * between(0.001, 0.004)};
  const double plugged_at = between(1800, 7200), load = between(0.3, 2);
  std::exponential_distribution<double> pause(1 / 60.0);
  Policy policy({.battery_floor = kFloor, .n_threads = 4});
  Outcome outcome;
  double arrival = 0, cpu = 0;
  std::optional<test::RunRecord> csv;
  if (!record.empty()) csv.emplace(record, "seconds,percent,share,waiting");
  for (double now = 0; now < 4 * 3600; now += 1) {
    const bool plugged = now >= plugged_at;
    Sample sample{.seconds = now};
    sample.battery_percent = {battery.gauge(now), Source::kMeasured};
    sample.on_battery = !plugged;
    sample.own_cpu_seconds = sample.busy_cpu_seconds = cpu;
    const Settings& settings = policy.decide(sample, {});
    if (now >= arrival && now < 9000) {
      arrival = now + pause(random);
      ++outcome.jobs.submitted;
      if (!settings.refuse.empty())
        ++outcome.jobs.refused;
      else
        (random() % 2 == 0 ? outcome.jobs.interactive : outcome.jobs.batch).push_back(60 * load * between(0.2, 1.8));
    }
    const double used = outcome.jobs.run(settings);
    cpu += 4 * used;
    battery.advance(used, 1, plugged);
    const auto waiting = outcome.jobs.interactive.size() + outcome.jobs.batch.size();
    if (settings.classes < kAllClasses && waiting > 0) ++outcome.deferred;
    if (!plugged) outcome.lowest_percent = std::min(outcome.lowest_percent, battery.percent());
    if (csv) csv->row(now, battery.percent(), used, static_cast<double>(waiting));
  }
  // Power is there: everything that waited gets done.
  Sample sample{.seconds = 5 * 3600};
  sample.battery_percent = {90, Source::kMeasured};
  for (int i = 0; i < 200'000 && !(outcome.jobs.interactive.empty() && outcome.jobs.batch.empty()); ++i) {
    sample.seconds += 1;
    outcome.jobs.run(policy.decide(sample, {}));
  }
  return outcome;
}

TEST(Battery, TheFloorIsNeverCrossedAndNoWorkIsLost) {
  double lowest = 100;
  int deferred = 0, refused = 0, submitted = 0;
  for (unsigned seed = 1; seed <= 200; ++seed) {
    const Outcome outcome = run(seed, seed <= 3 ? fmt::format("battery-{}", seed) : "");
    EXPECT_GE(outcome.lowest_percent, 15) << "seed " << seed;
    EXPECT_EQ(outcome.jobs.done + outcome.jobs.refused, outcome.jobs.submitted) << "seed " << seed;
    lowest = std::min(lowest, outcome.lowest_percent);
    deferred += outcome.deferred > 0 ? 1 : 0;
    refused += outcome.jobs.refused, submitted += outcome.jobs.submitted;
  }
  std::printf("200 seeds: lowest %.2f %% (floor 15 %%), work waited in %d, %d of %d jobs refused with the reason\n",
              lowest, deferred, refused, submitted);
  EXPECT_GT(deferred, 100) << "or the test shows nothing";
}

// A battery that tells no more is taken to fall on.
TEST(Battery, ASilentBatteryIsTakenToRunOutAllTheSame) {
  Policy policy({.battery_floor = 15});
  Sample sample;
  sample.battery_percent = {40, Source::kMeasured};
  sample.on_battery = true;
  EXPECT_EQ(policy.decide(sample, {}).classes, kAllClasses);
  sample.battery_percent = {.problem = "Input/output error"};
  int stopped_at = 0;
  for (int second = 1; second < 7200 && stopped_at == 0; ++second) {
    sample.seconds = second;
    if (policy.decide(sample, {}).classes == kNothing) stopped_at = second;
  }
  EXPECT_GT(stopped_at, 0);
  EXPECT_TRUE(policy.settings().refuse.contains("estimated")) << policy.settings().refuse;
}

TEST(Battery, TheSaverKeepsBatchWorkForThePlug) {
  Policy policy({.profile = Profile::kSaver});
  Sample sample;
  sample.battery_percent = {90, Source::kMeasured};
  sample.on_battery = true;
  EXPECT_EQ(policy.decide(sample, {}).classes, kNoBatch);
  EXPECT_LE(policy.settings().share, 0.5);
  sample.seconds = 1, sample.on_battery = false;
  EXPECT_EQ(policy.decide(sample, {}).classes, kAllClasses);
}

}  // namespace
}  // namespace hearth::power
