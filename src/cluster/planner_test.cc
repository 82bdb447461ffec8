#include "cluster/planner.h"

#include <gtest/gtest.h>

namespace hearth::cluster {
namespace {

constexpr uint64_t kMb = 1'000'000;

// 20 layers of 100 MB, ends of 200 MB.
PlannerModel some_model() {
  return {.layers = std::vector<PlannerLayer>(20, {100 * kMb, 100 * kMb}),
          .ends = {200 * kMb, 200 * kMb},
          .row_bytes = 16'384};
}

PlannerMachine machine(uint64_t megabytes, double gigabytes_per_second, double link_ms = 0.2) {
  return {.name = "",
          .memory_bytes = megabytes * kMb,
          .bytes_per_second = gigabytes_per_second * 1e9,
          .link_seconds = link_ms / 1e3,
          .link_bytes_per_second = 1.25e8};
}

std::string plan(std::vector<PlannerMachine> machines, PlannerWish wish = {}, PlannerModel model = some_model()) {
  const auto planned = plan_chain(model, machines, wish);
  if (!planned) return planned.error().message;
  EXPECT_TRUE(check(planned->plan, static_cast<int>(model.layers.size()), static_cast<int>(machines.size())));
  std::string text = fmt::format("own {}", planned->plan.own_end);
  for (const PlannedStage& stage : planned->plan.stages)
    text += fmt::format(" {}:{}-{}", stage.node, stage.layers.first, stage.layers.end);
  return text;
}

TEST(Planner, OneMachineIsKeptWhereItSuffices) {
  EXPECT_EQ(plan({machine(4000, 10)}), "own 20");
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 10)}), "own 20") << "a second one makes one answer no faster";
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 10.5)}), "own 20") << "nor worth the while by a little";
}

TEST(Planner, AFasterMachineTakesTheLayers) {
  EXPECT_EQ(plan({machine(4000, 2), machine(4000, 10)}), "own 0 1:0-20");
  EXPECT_EQ(plan({machine(4000, 2), machine(1000, 10)}), "own 10 1:10-20") << "as far as it has room";
  EXPECT_EQ(plan({machine(4000, 2), machine(4000, 10, 600)}), "own 20") << "but not at the end of a slow link";
}

TEST(Planner, FarMachinesCountWhereNearOnesHaveTooLittleMemory) {
  std::vector<PlannerMachine> machines{machine(300, 10)};
  for (int i = 0; i < 20; ++i) machines.push_back(machine(100, 5, 0.2));
  machines.push_back(machine(3000, 5, 9));
  EXPECT_EQ(plan(machines), "own 1 21:1-20");
}

TEST(Planner, MemoryIsPutTogether) {
  EXPECT_EQ(plan({machine(1200, 10), machine(1000, 5)}), "own 10 1:10-20");
  EXPECT_EQ(plan({machine(200, 10), machine(1000, 5), machine(1000, 5, 3)}), "own 0 1:0-10 2:10-20");
  const std::string none = plan({machine(1200, 10), machine(900, 5)});
  EXPECT_TRUE(none.contains("2200000000") && none.contains("2100000000")) << none;
  EXPECT_TRUE(plan({machine(100, 10), machine(9000, 5)}).contains("fits on no chain")) << "the ends are the owner's";
  EXPECT_TRUE(plan({machine(4000, 0)}).contains("fits on no chain")) << "a machine of which nothing was measured";
}

TEST(Planner, SeveralAnswersUseMachinesAtOnce) {
  const PlannerWish four{.streams = 4, .margin = 0.1};
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 10)}, four), "own 9 1:9-20") << "the ends are work, too";
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 0.5)}, four), "own 20") << "a much slower one would hold all up";
  const auto planned = plan_chain(some_model(), std::vector{machine(4000, 10), machine(4000, 10)}, four).value();
  EXPECT_GT(planned.tokens_per_second, 1.9 * planned.alone_tokens_per_second);
}

TEST(Planner, CountsWhatATokenReadsNotWhatLiesInMemory) {
  PlannerModel mixture = some_model();
  for (size_t i = 0; i < 10; ++i) mixture.layers[i].token_bytes /= 10;  // ten layers with experts
  const PlannerWish four{.streams = 4, .margin = 0.1};
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 10)}, four, mixture), "own 13 1:13-20");
}

TEST(Planner, RefusesWhatIsNoQuestion) {
  EXPECT_FALSE(plan_chain(some_model(), {}, {}));
  EXPECT_FALSE(plan_chain({}, std::vector{machine(1, 1)}, {}));
  EXPECT_FALSE(plan_chain(some_model(), std::vector{machine(1, 1)}, {.streams = 0}));
}

}  // namespace
}  // namespace hearth::cluster
