// Choosing cores on simulated phones, against trying everything without noise.
#include "power/core_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace hearth::power {
namespace {

struct Phone {
  std::string_view name;
  std::vector<int> cores;
  std::vector<double> speed, watts;  // of a core of each class
  double memory_rate, base_watts, memory_watts;

  // Two or three fast cores are nearly what memory can feed. Cores that wait take less, but not nothing; the more cores, the more they wait for each other.
  [[nodiscard]] Probe truth(const CoreSet& set) const {
    double compute = 0, core_watts = 0;
    int n = 0;
    for (size_t i = 0; i < set.size(); ++i) compute += set[i] * speed[i], core_watts += set[i] * watts[i], n += set[i];
    compute *= 1 - 0.02 * (n - 1);
    const double rate = std::pow(std::pow(compute, -6) + std::pow(memory_rate, -6), -1.0 / 6);
    return {.tokens_per_second = 10 * rate,
            .watts = base_watts + memory_watts * rate / memory_rate + core_watts * (0.6 + 0.4 * rate / compute)};
  }
};

const Phone kThreeKinds{"1+3+4", {1, 3, 4}, {1, 0.75, 0.25}, {2.4, 1.1, 0.3}, 1.6, 0.5, 0.9};
const Phone kTwoKinds{"4+4", {4, 4}, {0.8, 0.22}, {1.5, 0.3}, 1.5, 0.5, 0.8};

TEST(CoreChoice, FindsNearlyTheBestSetInTwoSecondsOfProbing) {
  for (const Phone& phone : {kThreeKinds, kTwoKinds}) {
    double fastest = 0, optimum = 1e9;
    std::vector<CoreSet> sets{{}};
    for (const int n : phone.cores) {
      std::vector<CoreSet> longer;
      for (const CoreSet& set : sets)
        for (int i = 0; i <= n; ++i) longer.push_back(set), longer.back().push_back(i);
      sets = std::move(longer);
    }
    std::erase_if(sets, [](const CoreSet& set) { return std::ranges::all_of(set, [](int n) { return n == 0; }); });
    for (const CoreSet& set : sets) fastest = std::max(fastest, phone.truth(set).tokens_per_second);
    for (const CoreSet& set : sets)
      if (const Probe probe = phone.truth(set); probe.tokens_per_second >= 0.95 * fastest)
        optimum = std::min(optimum, probe.joules_per_token());
    const Probe all = phone.truth(phone.cores);
    double worst_saving = 1, worst_excess = 0, worst_slowdown = 0;
    for (unsigned seed = 1; seed <= 50; ++seed) {
      std::mt19937 random(seed);
      std::normal_distribution<double> noise(0, 1);
      double probed = 0;
      const CoreChoice choice = choose_cores(phone.cores, [&](const CoreSet& set, double seconds) {
        probed += seconds;
        const Probe truth = phone.truth(set);
        const double noise_scale = std::sqrt(0.05 / seconds);  // 1 % of the rate and 3 % of the power in 50 ms
        return Probe{.tokens_per_second = truth.tokens_per_second * (1 + 0.01 * noise_scale * noise(random)),
                     .watts = truth.watts * (1 + 0.03 * noise_scale * noise(random))};
      });
      EXPECT_LE(probed, 2.0 + 1e-9);
      const Probe chosen = phone.truth(choice.set);
      worst_saving = std::min(worst_saving, 1 - chosen.joules_per_token() / all.joules_per_token());
      worst_excess = std::max(worst_excess, chosen.joules_per_token() / optimum - 1);
      worst_slowdown = std::max(worst_slowdown, 1 - chosen.tokens_per_second / all.tokens_per_second);
    }
    std::printf(
        "%s: at worst of 50 seeds %.1f %% less energy than all cores, %.1f %% above the optimum, %.1f %% slower\n",
        phone.name.data(), 100 * worst_saving, 100 * worst_excess, 100 * worst_slowdown);
    EXPECT_GE(worst_saving, 0.2) << phone.name;
    EXPECT_LE(worst_excess, 0.05) << phone.name;
    EXPECT_LE(worst_slowdown, 0.05) << phone.name;
  }
}

// Steps of a large model take longer than a look should: what counts is the time that goes by.
TEST(CoreChoice, SlowStepsMeanFewerLooksNotMoreTime) {
  double spent = 0;
  const std::vector<int> cores{4, 4};
  const CoreChoice choice = choose_cores(cores, [&](const CoreSet& set, double) {
    spent += 0.3;
    return Probe{.tokens_per_second = 1.0 * set[0] + 0.1 * set[1], .watts = 2.0 * set[0] + set[1], .seconds = 0.3};
  });
  EXPECT_LE(spent, 2.0);
  EXPECT_DOUBLE_EQ(choice.seconds, spent);
  EXPECT_GT(choice.set[0], 0);
}

TEST(CoreChoice, OneCoreIsItself) {
  const std::vector<int> one{1};
  const CoreChoice choice =
      choose_cores(one, [](const CoreSet&, double) { return Probe{.tokens_per_second = 1, .watts = 1}; });
  EXPECT_EQ(choice.set, CoreSet{1});
  EXPECT_EQ(choice.looked_at, 1);
}

}  // namespace
}  // namespace hearth::power
