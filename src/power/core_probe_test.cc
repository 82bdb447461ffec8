// Which cores are chosen on machines with several kinds, from files as the system shows them and a made-up model.
#include "power/core_probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/fake_system.h"

namespace hearth::power {
namespace {

using test::FakeSystem;

// Four slow cores, four fast ones of which the last is favoured, each fast one with two hardware threads.
struct Machine {
  FakeSystem system;
  double joules = 0;
  bool tells_energy = false;
  std::vector<int> last_cpus{};

  explicit Machine(bool measured) : tells_energy(measured) {
    for (int cpu = 0; cpu < 12; ++cpu) {
      const std::string at = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/";
      system.write(at + "cpu_capacity", cpu < 4 ? "300" : cpu % 4 == 3 ? "1024" : "1000");
      if (cpu >= 4)
        system.write(at + "topology/thread_siblings_list",
                     std::to_string(cpu % 4 + 4) + "," + std::to_string(cpu % 4 + 8));
    }
    if (measured) tell();
  }
  void tell() const { system.package(std::to_string(static_cast<int64_t>(joules * 1e6)), "262143328850"); }
  // Two fast cores are all that memory can feed; a fast core takes 4 W, a slow one 0.5.
  double generate(std::span<const int> cpus, double seconds) {
    double compute = 0, watts = 2;
    for (const int cpu : cpus) compute += cpu < 4 ? 0.2 : 1, watts += cpu < 4 ? 0.5 : 4;
    last_cpus.assign(cpus.begin(), cpus.end());
    system.seconds += seconds, joules += watts * seconds;
    if (tells_energy) tell();
    return 20 * std::min(compute, 2.0) * seconds;
  }
  CoreDecision decide(std::span<const CoreClass> classes) {
    Sensors sensors(system.options());
    return decide_cores(classes, sensors, 3, [this](std::span<const int> cpus, double s) { return generate(cpus, s); });
  }
};

std::vector<int> cpus_from(int first, int last) {
  std::vector<int> cpus;
  for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  return cpus;
}

TEST(CoreProbe, AKindIsItsCoresNotTheirHardwareThreadsAndFavouredOnesBelongToIt) {
  const Machine machine(false);
  const auto classes = choosable_cores(cpus_from(0, 11), machine.system.root());
  ASSERT_EQ(classes.size(), 2u);
  EXPECT_EQ(classes[0].cpus.size(), 4u);
  EXPECT_TRUE(std::ranges::all_of(classes[0].cpus, [](int cpu) { return cpu >= 4 && cpu < 8; }));
  EXPECT_EQ(classes[1].cpus, cpus_from(0, 3));
  EXPECT_EQ(choosable_cores(cpus_from(0, 3), machine.system.root()).size(), 1u) << "the others are not ours";
  const FakeSystem silent;
  EXPECT_TRUE(choosable_cores(cpus_from(0, 3), silent.root()).empty());
}

TEST(CoreProbe, WhatIsMeasuredDecidesAndIsSaid) {
  Machine machine(true);
  const auto classes = choosable_cores(cpus_from(0, 11), machine.system.root());
  const double began = machine.system.seconds;
  const CoreDecision decision = machine.decide(classes);
  EXPECT_TRUE(decision.measured);
  EXPECT_TRUE(decision.text.contains("(measured)")) << decision.text;
  EXPECT_LE(machine.system.seconds - began, 2.05);
  EXPECT_EQ(decision.cpus.size(), 2u) << decision.text << ": more cores bring heat and no token";
  EXPECT_GE(decision.cpus.front(), 4) << decision.text;
}

TEST(CoreProbe, WithoutCountersTheChoiceIsAnEstimateAndSaysSo) {
  Machine machine(false);
  const CoreDecision decision = machine.decide(choosable_cores(cpus_from(0, 11), machine.system.root()));
  EXPECT_FALSE(decision.measured);
  EXPECT_TRUE(decision.text.contains("(estimated)")) << decision.text;
  EXPECT_EQ(decision.cpus.size(), 2u) << decision.text;
}

// A counter that stands still would make its set free of charge.
TEST(CoreProbe, ACounterThatStandsStillIsNotBelieved) {
  Machine machine(true);
  machine.tells_energy = false;
  const CoreDecision decision = machine.decide(choosable_cores(cpus_from(0, 11), machine.system.root()));
  EXPECT_FALSE(decision.measured);
  EXPECT_EQ(decision.cpus.size(), 2u) << decision.text;
}

}  // namespace
}  // namespace hearth::power
