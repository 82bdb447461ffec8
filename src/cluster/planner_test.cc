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
  if (planned->head > 0) text += fmt::format(" head {}", planned->head);
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

TEST(Planner, TheHeadLeavesAnOwnerThatIsTooWeak) {
  PlannerModel model = some_model();
  model.head = {200 * kMb, 200 * kMb};
  EXPECT_EQ(plan({machine(4000, 10), machine(4000, 11)}, {}, model), "own 20") << "not for a little";
  EXPECT_EQ(plan({machine(4000, 1), machine(4000, 10)}, {}, model), "own 0 1:0-20 head 1");
  EXPECT_EQ(plan({machine(4000, 1), machine(2000, 10), machine(250, 20, 1)}, {}, model), "own 0 1:0-20 head 2")
      << "the machine with the layers has no room for it";
  EXPECT_EQ(plan({machine(4000, 1), machine(2000, 10), machine(250, 20, 100)}, {}, model), "own 0 1:0-20")
      << "and the other one is too far";
  // Layers take memory that is not read for each token.
  model.layers.assign(20, {200 * kMb, 100 * kMb});
  model.ends = {1200 * kMb, 1200 * kMb}, model.head = {1100 * kMb, 1100 * kMb};
  EXPECT_EQ(plan({machine(6000, 1), machine(1150, 4)}, {}, model), "own 20 head 1") << "most of the model is the head";
  EXPECT_EQ(plan({machine(100, 10), machine(5200, 5)}, {}, model), "own 0 1:0-20 head 1") << "no room for it here";
  EXPECT_TRUE(plan({machine(99, 10), machine(9000, 5)}, {}, model).contains("fits on no chain"));
  const auto planned = plan_chain(model, std::vector{machine(6000, 1), machine(1150, 4)}, {}).value();
  EXPECT_TRUE(planned.alone_fits);
  EXPECT_NEAR(planned.token_seconds, 2.1 + 1.1 / 4 + 4 * 0.2e-3, 1e-3) << "layers here, the head and the way there";
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

TEST(Planner, PromptsCountForWhoIsSlowWithThem) {
  auto phone = machine(4000, 10), box = machine(4000, 8);
  phone.prompt_bytes_per_second = 20e9, box.prompt_bytes_per_second = 800e9;
  EXPECT_EQ(plan({phone, box}), "own 20") << "of tokens alone the phone does more";
  EXPECT_EQ(plan({phone, box}, {.prompt_rows = 1000, .answer_tokens = 50}), "own 0 1:0-20");
  EXPECT_EQ(plan({phone, box}, {.prompt_rows = 10, .answer_tokens = 5000}), "own 20");
  // Chunks of a prompt follow each other: two machines do a long one in little more than half the time.
  box.prompt_bytes_per_second = 100e9;
  const PlannerWish wish{.margin = -1, .prompt_rows = 4096, .answer_tokens = 1};
  auto half = box;
  half.memory_bytes = 1200 * kMb;
  const double alone = plan_chain(some_model(), std::vector{box}, wish)->prompt_seconds;
  const auto both = plan_chain(some_model(), std::vector{half, half}, wish).value();
  ASSERT_EQ(both.plan.stages.size(), 1u);
  EXPECT_LT(both.prompt_seconds, 0.6 * alone);
  // But every row of it goes over the link.
  half.link_bytes_per_second = 1e5;
  EXPECT_GT(plan_chain(some_model(), std::vector{half, half}, wish)->prompt_seconds, 4096 * 16'384 / 1e5);
}

TEST(Planner, WhatHasNoRoomIsReadFromTheDiskWhereNobodyHelps) {
  auto owner = machine(1200, 10);
  EXPECT_TRUE(plan({owner}).contains("fits on no chain"));
  owner.disk_bytes_per_second = 1e9;
  EXPECT_EQ(plan({owner}), "own 20");
  const auto streamed = plan_chain(some_model(), std::vector{owner}, {}).value();
  EXPECT_FALSE(streamed.alone_fits);
  EXPECT_EQ(streamed.streamed_bytes, 1000 * kMb);
  EXPECT_NEAR(streamed.token_seconds, 0.22 + 1.0, 1e-9);
  EXPECT_EQ(plan({owner, machine(1000, 5)}), "own 10 1:10-20") << "another's memory is faster than a disk";
  EXPECT_EQ(plan({owner, machine(1000, 0.5)}), "own 20") << "if it is not too slow itself";
  owner.memory_bytes = 350 * kMb;
  EXPECT_TRUE(plan({owner}).contains("fits on no chain")) << "two layers have to be in memory beside the ends";
}

TEST(Planner, BatteriesAndCloudsAreForWhereTheyAreNeeded) {
  auto phone = machine(4000, 12), cloud = machine(9000, 100);
  phone.battery = true, cloud.cloud = true;
  EXPECT_EQ(plan({machine(4000, 10), phone}), "own 20") << "not for a fifth";
  EXPECT_EQ(plan({machine(4000, 2), phone}), "own 0 1:0-20") << "but for six times as much";
  EXPECT_EQ(plan({machine(1200, 10), phone}), "own 0 1:0-20") << "and where it does not fit without";
  EXPECT_EQ(plan({machine(4000, 2), phone, machine(4000, 9)}), "own 0 2:0-20");
  EXPECT_EQ(plan({machine(4000, 2), cloud}), "own 20");
  EXPECT_TRUE(plan({machine(1200, 2), cloud}).contains("fits on no chain"));
  EXPECT_EQ(plan({machine(4000, 2), cloud}, {.cloud = true}), "own 0 1:0-20");
}

TEST(Planner, SaysWhoCouldAnswerAloneForRequestsOfTheirOwn) {
  const PlannerWish four{.streams = 4};
  const auto planned =
      plan_chain(some_model(), std::vector{machine(4000, 10), machine(1000, 10), machine(4000, 5)}, four).value();
  EXPECT_EQ(planned.replicas, (std::vector{0, 2}));
  EXPECT_NEAR(planned.replicas_tokens_per_second, 10 / 2.2 + 5 / 2.2, 1e-9);
  EXPECT_TRUE(plan_chain(some_model(), std::vector{machine(4000, 10)}, {})->replicas.empty()) << "of one answer";
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
  EXPECT_FALSE(plan_chain(some_model(), std::vector{machine(1, 1)}, {.answer_tokens = 0}));
}

}  // namespace
}  // namespace hearth::cluster
