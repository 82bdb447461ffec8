// What the policy makes of sensors that lie, of energy that is to be kept to, and what it says about it.
#include "power/policy.h"

#include <gtest/gtest.h>

#include <optional>

#include "support/fake_system.h"
#include "support/simulated_machine.h"

namespace hearth::power {
namespace {

using test::FakeSystem;
using test::SimulatedMachine;

bool log_says(const Policy& policy, std::string_view text) {
  return std::ranges::any_of(policy.log(), [&](const LogEntry& entry) { return entry.text.contains(text); });
}

// A machine whose sensor is a file that a test may spoil.
struct Rig {
  FakeSystem system;
  SimulatedMachine machine{test::kPlants[0], 35, 1};
  Policy policy{{.max_temp_c = test::kPlants[0].trip_c, .n_threads = SimulatedMachine::kThreads}};
  double load = 1;  // that there is

  void zone(std::string_view text) const { system.zone(0, "cpu-thermal", text); }
  void true_zone() { zone(std::to_string(static_cast<int>(machine.sample().temperature_c.value * 1000))); }
  void second() {
    const Settings& settings = policy.decide(system.read(), machine.work());
    machine.advance(std::min(settings.share, load), 1, settings.threads);
    system.own_cpu = machine.sample().own_cpu_seconds;
  }
};

TEST(Policy, ASensorThatFailsMeansSafeModeWithinTwoSecondsAndItEnds) {
  for (const char* bad : {"nan", "", "-274000", "4000000", "inf", "garbage"}) {
    Rig rig;
    for (int i = 0; i < 150; ++i) rig.true_zone(), rig.second();
    const double before = rig.policy.settings().share;
    EXPECT_GT(before, kSafeShare) << "or there is nothing to see";
    rig.zone(bad);
    rig.second(), rig.second();
    EXPECT_LE(rig.policy.settings().share, kSafeShare) << bad;
    EXPECT_TRUE(log_says(rig.policy, "safe mode: ")) << bad;
    for (int i = 0; i < 200; ++i) rig.second();
    EXPECT_LE(rig.policy.settings().share, kSafeShare) << bad << " lasts";
    for (int i = 0; i < 120; ++i) rig.true_zone(), rig.second();
    EXPECT_GT(rig.policy.settings().share, kSafeShare) << "it works again";
    EXPECT_LE(rig.machine.hottest_c(), test::kPlants[0].trip_c) << bad;
  }
}

TEST(Policy, ASensorThatGoesAwayMeansSafeMode) {
  Rig rig;
  for (int i = 0; i < 150; ++i) rig.true_zone(), rig.second();
  std::filesystem::remove_all(rig.system.root() / "sys/class/thermal/thermal_zone0");
  rig.second(), rig.second();
  EXPECT_LE(rig.policy.settings().share, kSafeShare);
  EXPECT_TRUE(log_says(rig.policy, "No such file")) << rig.policy.log().back().text;
}

// Two seconds after six degrees more or less would have been expected of it.
TEST(Policy, ASensorThatIsStuckIsFoundOutWhenTheLoadChanges) {
  Rig rig;
  for (int i = 0; i < 600; ++i) rig.load = i % 120 < 60 ? 1 : 0.1, rig.true_zone(), rig.second();
  rig.load = 0.02;
  for (int i = 0; i < 60; ++i) rig.true_zone(), rig.second();
  // It goes on saying how cool it was; without a fault the policy would allow everything.
  rig.load = 1;
  int seconds = 0;
  for (double expected = 0; expected < 6; ++seconds) {
    const double before = rig.machine.die_c();
    rig.second();
    expected += rig.machine.die_c() - before;
    ASSERT_LT(seconds, 60);
  }
  for (int i = 0; i < 4; ++i) rig.second();
  EXPECT_LE(rig.policy.settings().share, kSafeShare) << "at " << rig.machine.die_c();
  EXPECT_TRUE(log_says(rig.policy, "all the time")) << rig.policy.log().back().text;
  for (int i = 0; i < 600; ++i) rig.second();
  EXPECT_LE(rig.machine.hottest_c(), test::kPlants[0].trip_c);
}

// At rest, stuck, and then work comes: from that moment on. On every machine, with every sensor's noise; and never without a reason.
TEST(Policy, ASensorThatIsStuckIsFoundOutSecondsAfterTheWorkBegins) {
  for (const test::Plant& plant : test::kPlants) {
    int slowest = 0, sum = 0, alarms = 0;
    constexpr unsigned kSeeds = 20;
    for (unsigned seed = 1; seed <= kSeeds; ++seed) {
      SimulatedMachine machine(plant, 30, seed);
      Policy policy({.max_temp_c = plant.trip_c, .n_threads = SimulatedMachine::kThreads});
      std::optional<Reading> stuck;
      const auto second = [&](double load) {
        Sample sample = machine.sample();
        if (stuck) sample.temperature_c = *stuck;
        const Settings& settings = policy.decide(sample, machine.work());
        machine.advance(std::min(settings.share, load), 1, settings.threads);
      };
      for (int i = 0; i < 600 + static_cast<int>(seed); ++i) second(i % 90 < 50 ? 1 : 0.02);
      for (int i = 0; i < 60; ++i) second(0.02);
      alarms += log_says(policy, "all the time") ? 1 : 0;
      stuck = machine.sample().temperature_c;
      for (int i = 0; i < 5; ++i) second(0.02);
      int seconds = 0;
      for (; !log_says(policy, "all the time") && seconds < 60; ++seconds) second(1);
      slowest = std::max(slowest, seconds), sum += seconds;
    }
    std::printf("%s: stuck found out after %.1f s, at worst %d\n", plant.name.data(), 1.0 * sum / kSeeds, slowest);
    EXPECT_EQ(alarms, 0) << plant.name << ": nothing was wrong";
    EXPECT_LE(slowest, 5) << plant.name;
  }
}

TEST(Policy, ALimitWithoutAnySensorIsSafeModeAndProfilesWithoutOneLimitNothing) {
  FakeSystem system;
  Policy asked({.max_temp_c = 70});
  EXPECT_LE(asked.decide(system.read(), {}).share, kSafeShare);
  EXPECT_TRUE(log_says(asked, "there is no temperature sensor"));
  Policy balanced({.profile = Profile::kBalanced});
  EXPECT_EQ(balanced.decide(system.read(), {}).share, 1);
  balanced.decide(system.read(), {});
  EXPECT_TRUE(balanced.log().empty()) << "nothing happened";
}

TEST(Policy, ProfilesStayBelowTheTripPointsOfTheSystem) {
  FakeSystem system;
  system.zone(0, "cpu-thermal", "50000", "passive", "80000");
  Policy performance({}), balanced({.profile = Profile::kBalanced}), saver({.profile = Profile::kSaver});
  const Sample sample = system.read();
  for (Policy* policy : {&performance, &balanced, &saver}) policy->decide(sample, {});
  EXPECT_FALSE(performance.limit_c());
  EXPECT_EQ(balanced.limit_c(), 75);
  EXPECT_EQ(saver.limit_c(), 70);
  EXPECT_LE(saver.settings().share, 0.5);
}

TEST(Policy, FarAboveTheLimitAllWorkStopsUntilItHasCooled) {
  FakeSystem system;
  Policy policy({.max_temp_c = 70});
  Policy with_friend({.max_temp_c = 70, .can_hand_over = true});
  for (const char* temperature : {"60000", "73000"}) {
    system.zone(0, "cpu-thermal", temperature);
    const Sample sample = system.read();
    policy.decide(sample, {}), with_friend.decide(sample, {});
  }
  EXPECT_EQ(policy.settings().classes, kNothing);
  EXPECT_TRUE(policy.settings().refuse.contains("73.0 C, the limit is 70.0")) << policy.settings().refuse;
  EXPECT_TRUE(with_friend.settings().hand_over);
  EXPECT_EQ(with_friend.settings().refuse, "") << "somebody else takes them";
  system.zone(0, "cpu-thermal", "69000");
  EXPECT_EQ(policy.decide(system.read(), {}).classes, kNothing) << "not yet";
  system.zone(0, "cpu-thermal", "66000");
  EXPECT_EQ(policy.decide(system.read(), {}).classes, kAllClasses);
}

// A quarter of the time of four threads: fewer of them, for longer, generate more. But enough to use the time up on a busy machine.
TEST(Policy, AShareOfTheTimeGoesToTheThreadsThatMakeTheMostOfIt) {
  SimulatedMachine machine(test::kPlants[2], 20, 1);
  Policy policy({.share = 0.25, .n_threads = SimulatedMachine::kThreads});
  for (int i = 0; i < 300; ++i) {
    const Settings& settings = policy.decide(machine.sample(), machine.work());
    EXPECT_EQ(settings.share, 0.25);
    machine.advance(settings.share, 1, settings.threads);
  }
  EXPECT_EQ(policy.settings().threads, 2);
  EXPECT_GT(machine.tokens(), 300 * 0.25 * 1.3) << "than half the time of all";
}

TEST(Policy, JoulesPerTokenAreKeptToWithFewerThreadsAndSaidSo) {
  Policy policy({.joules_per_token = 0.5, .n_threads = 4});
  Sample sample;
  const auto run = [&](double joules_per_token) {
    for (int i = 0; i < 13; ++i) {
      sample.seconds += 1;
      policy.decide(sample, {.tokens = 20, .joules = 20 * joules_per_token});
    }
  };
  run(0.4), run(0.4);
  EXPECT_EQ(policy.settings().threads, 4);
  run(0.8);
  EXPECT_EQ(policy.settings().threads, 2);
  EXPECT_TRUE(log_says(policy, "0.8 J a token, 0.5 asked for")) << policy.log().back().text;
  run(0.6);
  EXPECT_EQ(policy.settings().threads, 1);
  run(0.4);
  EXPECT_EQ(policy.settings().threads, 1) << "it does not go back and forth";
}

TEST(Policy, ThermalHeadroomIsKeptBelowWhereTheSystemThrottles) {
  Policy policy({.n_threads = 4});
  Sample sample;
  const auto run = [&](int seconds, double headroom) {
    for (int i = 0; i < seconds; ++i) {
      sample.seconds += 1;
      sample.headroom = {headroom, Source::kMeasured};
      policy.decide(sample, {});
    }
    return policy.settings().share;
  };
  EXPECT_EQ(run(10, 0.7), 1);
  const double near = run(4, 0.96);
  EXPECT_LT(near, 0.7);
  EXPECT_EQ(run(20, 0.9), near) << "it does not go back and forth";
  EXPECT_LE(run(1, 1.1), kSafeShare) << "at once";
  EXPECT_GT(run(60, 1.1), 0) << "never nothing at all";
  EXPECT_EQ(run(60, 0.5), 1);
  EXPECT_TRUE(log_says(policy, "thermal headroom is 1.10, at 1 it throttles"));
}

// Whose program waits goes first, in the profiles that are polite; our own threads waiting for each other is nobody's harm.
TEST(Policy, OthersThatWaitForProcessorsGoFirst) {
  struct Row {
    const char* what;
    Profile profile;
    double pressure, others_cores, least, most;  // what the share comes to
  };
  for (const Row& row : {Row{"performance takes what it gets", Profile::kPerformance, 90, 2, 1, 1},
                         Row{"balanced leaves half", Profile::kBalanced, 60, 2, 0.5, 0.5},
                         Row{"saver leaves more", Profile::kSaver, 60, 2, 0.2, 0.2},
                         Row{"some waiting is usual", Profile::kBalanced, 20, 2, 1, 1},
                         Row{"our own threads", Profile::kBalanced, 90, 0, 1, 1}}) {
    Policy policy({.profile = row.profile, .n_threads = 4});
    Sample sample;
    const auto run = [&](int seconds, double pressure) {
      for (int i = 0; i < seconds; ++i) {
        sample.seconds += 1;
        sample.own_cpu_seconds += 3, sample.busy_cpu_seconds += 3 + row.others_cores;
        sample.pressure = {pressure, Source::kMeasured};
        policy.decide(sample, {});
      }
    };
    run(40, row.pressure);
    EXPECT_GE(policy.settings().share, row.least - 1e-9) << row.what;
    EXPECT_LE(policy.settings().share, row.most + 1e-9) << row.what;
    const double share = policy.settings().share;
    const bool yielded = row.profile != Profile::kPerformance && row.pressure > 25 && row.others_cores > 0;
    EXPECT_EQ(log_says(policy, "others go first: somebody waited for a processor"), yielded) << row.what;
    if (!yielded) continue;
    run(20, 15);
    EXPECT_EQ(policy.settings().share, share) << row.what << ": it does not go back and forth";
    run(20, 2);
    EXPECT_GT(policy.settings().share, share) << row.what;
    run(40, 2);
    EXPECT_EQ(policy.settings().share, row.profile == Profile::kSaver ? 0.5 : 1) << row.what;
  }
}

// Guesses are given up where they cost more than they save, and only where each row counts; now and then they are tried again.
TEST(Policy, GuessedTokensAreLeftOutWhereTheyCostMoreThanTheySave) {
  struct Row {
    const char* what;
    bool asked;            // --joules-per-token
    double with, without;  // joules a token
    bool any;              // guesses were made
    bool left_out;         // in the end
  };
  for (const Row& row :
       {Row{"wasted guesses", true, 0.5, 0.4, true, true}, Row{"good guesses", true, 0.3, 0.4, true, false},
        Row{"hardly a difference", true, 0.4, 0.395, true, false},
        Row{"nothing asked for", false, 0.5, 0.4, true, false},
        Row{"nothing to guess", true, 0.5, 0.5, false, false}}) {
    PolicyOptions options{.n_threads = 4};
    if (row.asked) options.joules_per_token = 2;
    Policy policy(options);
    Sample sample;
    int without = 0;
    for (int i = 0; i < 600; ++i) {
      sample.seconds += 1;
      const bool guesses = policy.settings().drafts_max != 0;
      without += guesses ? 0 : 1;
      policy.decide(sample, {.tokens = 20,
                             .joules = 20 * (guesses ? row.with : row.without),
                             .generated = 20,
                             .drafted = guesses && row.any ? 12.0 : 0.0});
    }
    EXPECT_EQ(log_says(policy, "no guessed tokens"), row.left_out) << row.what;
    EXPECT_EQ(log_says(policy, "0.5 J a token with guesses, 0.4 without"), row.left_out) << row.what;
    if (row.left_out) {
      EXPECT_GT(without, 500) << row.what;
    } else {
      EXPECT_LT(without, 60) << row.what << ": tried out, no more";
    }
    if (!row.asked || !row.any) {
      EXPECT_EQ(without, 0) << row.what;
    }
  }
}

// Quality is touched only where that was allowed, last of all, and it is said.
TEST(Policy, FewerBitsAndSmallerModelsOnlyWhereTheyAreAllowed) {
  for (const auto& [allowed, smaller] :
       {std::pair{false, false}, std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
    Policy policy({.joules_per_token = 0.5, .may_lower_bits = allowed, .has_smaller_model = smaller, .n_threads = 4});
    Sample sample;
    for (int i = 0; i < 100; ++i) {
      sample.seconds += 1;
      policy.decide(sample, {.tokens = 20, .joules = 20});
    }
    EXPECT_EQ(policy.settings().bits, allowed ? 4 : 8);
    EXPECT_EQ(policy.settings().smaller_model, smaller);
    EXPECT_EQ(log_says(policy, "at 4 bits"), allowed);
    EXPECT_EQ(log_says(policy, "a smaller model answers"), smaller);
    SimulatedMachine machine(test::kPlants[0], 45, 1);
    Policy hot({.max_temp_c = test::kPlants[0].trip_c,
                .may_lower_bits = allowed,
                .has_smaller_model = smaller,
                .n_threads = 4});
    while (machine.seconds() < 600) {
      const Settings& settings = hot.decide(machine.sample(), machine.work());
      machine.advance(settings.share, 1, settings.threads);
    }
    EXPECT_EQ(hot.settings().bits, allowed ? 4 : 8);
    EXPECT_EQ(hot.settings().smaller_model, smaller);
  }
}

TEST(Policy, TheLogIsBounded) {
  FakeSystem system;
  Policy policy({.max_temp_c = 70});
  for (int i = 0; i < 1000; ++i) {
    system.zone(0, "cpu-thermal", i % 40 < 20 ? "nan" : "40000");
    policy.decide(system.read(), {});
  }
  EXPECT_LE(policy.log().size(), Policy::kLogMax);
  EXPECT_GT(policy.log().size(), 10u);
}

TEST(Profile, NamesAreReadAndWrongOnesRefused) {
  for (const Profile profile : {Profile::kPerformance, Profile::kBalanced, Profile::kSaver})
    EXPECT_EQ(parse_profile(name(profile)).value(), profile);
  EXPECT_TRUE(parse_profile("fast").error().message.contains("balanced"));
}

}  // namespace
}  // namespace hearth::power
