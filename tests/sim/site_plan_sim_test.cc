// Plans for 10,000 machines on 100 sites, made up from seeds: each site plans for itself, and whatever machines it has, a plan runs each
// layer once, in memory that is there, and is not worse than the owner alone.
#include <gtest/gtest.h>

#include <random>

#include "cluster/planner.h"

namespace hearth::cluster {
namespace {

constexpr int kSites = 100, kMachines = 100;

PlannerModel some_model(std::mt19937_64& random) {
  const auto layers = 16 + random() % 48;
  const uint64_t bytes = (20 + random() % 200) * 1'000'000;
  return {.layers = std::vector<PlannerLayer>(layers, {bytes, bytes}),
          .ends = {2 * bytes, bytes},
          .row_bytes = 4096 * (1 + random() % 8)};
}

std::vector<PlannerMachine> some_machines(std::mt19937_64& random) {
  std::vector<PlannerMachine> machines;
  for (int i = 0; i < kMachines; ++i)
    machines.push_back({.name = std::to_string(i),
                        .memory_bytes = (200 + random() % 8000) * 1'000'000,
                        .bytes_per_second = static_cast<double>(1 + random() % 30) * 1e9,
                        .link_seconds = static_cast<double>(1 + random() % 200) * 1e-4,
                        .link_bytes_per_second = static_cast<double>(1 + random() % 125) * 1e6});
  return machines;
}

TEST(SitePlans, OfTenThousandMachinesHold) {
  int planned_sites = 0, chains = 0;
  for (int site = 0; site < kSites; ++site) {
    std::mt19937_64 random(static_cast<uint64_t>(site));
    const PlannerModel model = some_model(random);
    const std::vector<PlannerMachine> machines = some_machines(random);
    const PlannerWish wish{.streams = site % 2 == 0 ? 1 : 4};
    const auto planned = plan_chain(model, machines, wish);
    SCOPED_TRACE(fmt::format("site {}", site));
    if (!planned) {
      EXPECT_EQ(planned.error().code, Code::kLimit) << planned.error().message;
      continue;
    }
    ++planned_sites;
    ASSERT_TRUE(check(planned->plan, static_cast<int>(model.layers.size()), kMachines));
    ASSERT_EQ(planned->bytes.size(), planned->plan.stages.size() + 1);
    EXPECT_LE(planned->bytes[0], machines[0].memory_bytes);
    for (size_t i = 0; i < planned->plan.stages.size(); ++i)
      EXPECT_LE(planned->bytes[i + 1], machines[static_cast<size_t>(planned->plan.stages[i].node)].memory_bytes);
    if (planned->alone_fits) {
      EXPECT_GE(planned->tokens_per_second, planned->alone_tokens_per_second);
    }
    chains += planned->plan.stages.empty() ? 0 : 1;
    // The same machines give the same plan.
    EXPECT_EQ(plan_chain(model, machines, wish)->tokens_per_second, planned->tokens_per_second);
  }
  EXPECT_GT(planned_sites, kSites / 2);
  EXPECT_GT(chains, kSites / 4);
}

}  // namespace
}  // namespace hearth::cluster
