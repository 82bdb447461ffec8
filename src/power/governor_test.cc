// The governor with its thread, and how it keeps to a share of the processor.
#include "power/governor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/json/serialize.hpp>
#include <future>

#include "support/fake_system.h"

namespace hearth::power {
namespace {

using test::FakeSystem;

// Steps that take as long as they like, pauses that are longer than asked for: the share comes out.
TEST(DutyCycle, TheShareComesOutWhateverStepsAndPausesAreLike) {
  for (const double share : {0.05, 0.25, 0.5, 0.75, 0.95}) {
    DutyCycle duty;
    double now = 0, used = 0;
    unsigned step = 0;
    duty.pause(now, used, share, 2);
    while (now < 60) {
      ++step;
      const double took = 0.004 + 0.02 * (step % 7) + (step % 50 == 0 ? 0.5 : 0);  // and chunks of prompts
      now += took, used += 1.9 * took;                                             // threads that wait a little
      const double pause = duty.pause(now, used, share, 2);
      now += pause > 0 ? pause + 0.0003 : 0;
    }
    EXPECT_NEAR(used / now / 2, std::min(share, 0.95), 0.01) << share;
  }
}

TEST(DutyCycle, RestGivesNoRightToABurst) {
  DutyCycle duty;
  duty.pause(0, 0, 0.5, 2);
  EXPECT_EQ(duty.pause(3600, 0, 0.5, 2), 0);
  EXPECT_GT(duty.pause(3600.2, 0.4, 0.5, 2), 0.1);
  EXPECT_EQ(duty.pause(3600.3, 0.6, 1, 2), 0) << "nothing is owed where nothing limits";
}

GovernorOptions with(FakeSystem& system, PolicyOptions policy) {
  return {.policy = policy, .sensors = {.root = system.root()}, .period = std::chrono::milliseconds(5)};
}

template <typename Condition>
void wait_for(Condition condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(Governor, BelowTheBatterysFloorNewWorkIsRefusedWithTheReasonUntilItIsPluggedIn) {
  FakeSystem system;
  system.battery("12", "Discharging");
  const auto governor = Governor::start(with(system, {.battery_floor = 15}));
  const auto refused = governor->admit();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kBusy);
  EXPECT_TRUE(refused.error().message.contains("battery at 12 %, the floor is 15 %")) << refused.error().message;
  EXPECT_EQ(governor->step_done(1, 1).classes, kNothing);
  system.battery("12", "Charging");
  wait_for([&] { return governor->admit().has_value(); });
  EXPECT_EQ(governor->step_done(1, 1).classes, kAllClasses);
}

TEST(Governor, AnotherMachineIsToldOnceThatItHasToTakeOver) {
  FakeSystem system;
  system.zone(0, "cpu-thermal", "60000");
  std::atomic<int> told{0};
  GovernorOptions options = with(system, {.max_temp_c = 70});
  options.hand_over = [&](const std::string& reason) {
    EXPECT_TRUE(reason.contains("too hot")) << reason;
    ++told;
  };
  const auto governor = Governor::start(std::move(options));
  system.zone(0, "cpu-thermal", "75000");
  wait_for([&] { return told > 0; });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(governor->admit()) << "requests go on";
}

// A driver that hangs must not leave the last decision standing.
TEST(Governor, SensorsThatDoNotAnswerMeanSafeMode) {
  FakeSystem system;
  system.zone(0, "cpu-thermal", "40000");
  std::atomic<double> now{0};
  std::atomic<bool> hangs{false}, hanging{false};
  const auto ours = std::this_thread::get_id();
  GovernorOptions options = with(system, {.max_temp_c = 90});
  options.sensors.now = [&] { return now.load(); };
  options.sensors.own_cpu = [&] {
    if (std::this_thread::get_id() != ours && hangs) {
      hanging = true;
      hangs.wait(true);
    }
    return 0.0;
  };
  const auto governor = Governor::start(std::move(options));
  wait_for([&] {
    now = now + 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return governor->step_done(0, 1).share > kSafeShare;
  });
  hangs = true;
  wait_for([&] { return hanging.load(); });
  now = now + 10;
  EXPECT_LE(governor->step_done(0, 1).share, kSafeShare);
  hangs = false;
  hangs.notify_all();
  wait_for([&] { return governor->step_done(0, 1).share > kSafeShare; });
}

// An app that stops telling must not leave its last word standing.
TEST(Governor, HeadroomThatAnAppTellsLowersTheShareAndIsForgotten) {
  FakeSystem system;
  std::atomic<double> now{1};
  GovernorOptions options = with(system, {});
  options.sensors.now = [&] { return now.load(); };
  options.sensors.own_cpu = [] { return 0.0; };
  const auto governor = Governor::start(std::move(options));
  const auto reading = [&] { return governor->state().at("sensors").at("thermal_headroom").as_object(); };
  EXPECT_EQ(reading().at("source").as_string(), "absent");
  wait_for([&] {
    now = now + 0.1;
    governor->tell_headroom(1.02);
    return governor->step_done(0, 1).share <= kSafeShare;
  });
  EXPECT_EQ(reading().at("source").as_string(), "measured");
  EXPECT_EQ(reading().at("value").as_double(), 1.02);
  EXPECT_TRUE(boost::json::serialize(governor->state()).contains("thermal headroom is 1.02"));
  now = now + 60;
  wait_for([&] { return governor->step_done(0, 1).share == 1; });
  EXPECT_TRUE(std::string_view(reading().at("problem").as_string()).contains("told last"));
}

TEST(Governor, EnergyIsHandedOutOnceAndMarkedAsWhatItIs) {
  FakeSystem system;
  double cpu = 0;
  GovernorOptions options = with(system, {});
  options.sensors.own_cpu = [&] { return cpu; };
  options.watts_per_core = 4;
  options.period = std::chrono::hours(1);
  const auto governor = Governor::start(std::move(options));
  governor->take_energy();
  cpu = 2.5;
  const Governor::Energy energy = governor->take_energy();
  EXPECT_DOUBLE_EQ(energy.joules, 10);
  EXPECT_FALSE(energy.measured);
  EXPECT_EQ(governor->take_energy().joules, 0);
}

TEST(Governor, StateAndFiguresSayWhatIsMeasuredEstimatedAndAbsent) {
  FakeSystem system;
  system.zone(0, "cpu-thermal", "41500");
  const auto governor = Governor::start(with(system, {.share = 0.5, .max_temp_c = 70, .n_threads = 2}));
  const boost::json::object state = governor->state();
  EXPECT_EQ(state.at("sensors").at("temperature_c").at("value").as_double(), 41.5);
  EXPECT_EQ(state.at("sensors").at("temperature_c").at("source").as_string(), "measured");
  EXPECT_EQ(state.at("sensors").at("battery_percent").at("source").as_string(), "absent");
  EXPECT_TRUE(state.at("sensors").at("battery_percent").at("value").is_null());
  EXPECT_EQ(state.at("energy").at("source").as_string(), "estimated");
  EXPECT_FALSE(state.at("decisions").as_array().empty());
  EXPECT_TRUE(boost::json::serialize(state).contains("50 % asked for")) << boost::json::serialize(state);
  Exposition out;
  governor->write_metrics(out);
  EXPECT_TRUE(out.text().contains("hearth_joules_total{source=\"estimated\"}")) << out.text();
  EXPECT_TRUE(out.text().contains("hearth_temperature_celsius 41.5")) << out.text();
  EXPECT_FALSE(out.text().contains("hearth_battery_percent")) << "what is absent is no zero";
}

}  // namespace
}  // namespace hearth::power
