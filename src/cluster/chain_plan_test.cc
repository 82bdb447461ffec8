#include "cluster/chain_plan.h"

#include <gtest/gtest.h>

namespace hearth::cluster {
namespace {

std::string text(const ChainPlan& plan) {
  std::string all = fmt::format("own {}", plan.own_end);
  for (const PlannedStage& stage : plan.stages)
    all += fmt::format(" {}:{}-{}", stage.node, stage.layers.first, stage.layers.end);
  return all;
}

TEST(ChainPlan, DividesLayersEvenly) {
  EXPECT_EQ(text(even_plan(0, 30, 3)), "own 0 0:0-10 1:10-20 2:20-30");
  EXPECT_EQ(text(even_plan(4, 30, 4)), "own 4 0:4-10 1:10-17 2:17-23 3:23-30");
  EXPECT_EQ(text(even_plan(0, 2, 3)), "own 0 1:0-1 2:1-2") << "more machines than layers";
  EXPECT_TRUE(check(even_plan(4, 30, 4), 30, 4));
}

TEST(ChainPlan, RefusesWhatIsNoPartition) {
  EXPECT_FALSE(check({.own_end = 0, .stages = {{0, {0, 10}}}}, 30, 1)) << "layers are missing at the end";
  EXPECT_FALSE(check({.own_end = 2, .stages = {{0, {0, 30}}}}, 30, 1)) << "layers twice";
  EXPECT_FALSE(check({.own_end = 0, .stages = {{0, {0, 10}}, {0, {10, 30}}}}, 30, 2)) << "one machine twice";
  EXPECT_FALSE(check({.own_end = 0, .stages = {{1, {0, 30}}}}, 30, 1)) << "no such machine";
  EXPECT_FALSE(check({.own_end = 31, .stages = {}}, 30, 1));
}

TEST(ChainPlan, TheLostAreReplaced) {
  const ChainPlan plan = even_plan(0, 30, 3);
  EXPECT_EQ(text(without_lost(plan, {true, true, true})), text(plan));
  EXPECT_EQ(text(without_lost(plan, {true, false, true, true})), "own 0 0:0-10 3:10-20 2:20-30") << "by a spare";
  EXPECT_EQ(text(without_lost(plan, {true, false, true, false})), "own 0 0:0-20 2:20-30") << "by who comes before";
  EXPECT_EQ(text(without_lost(plan, {false, true, true})), "own 0 1:0-20 2:20-30") << "by who comes after";
  EXPECT_EQ(text(without_lost(plan, {false, false, true})), "own 0 2:0-30");
  EXPECT_EQ(text(without_lost(plan, {false, false, false})), "own 30") << "by the owner, if nobody is left";
  EXPECT_EQ(text(without_lost({.own_end = 5, .stages = {{0, {5, 30}}}}, {false})), "own 30");
  for (int lost = 0; lost < 16; ++lost) {
    const std::vector<bool> alive{(lost & 1) == 0, (lost & 2) == 0, (lost & 4) == 0, (lost & 8) == 0};
    const ChainPlan left = without_lost(even_plan(1, 9, 3), alive);
    EXPECT_TRUE(check(left, 9, 4)) << text(left);
    for (const PlannedStage& stage : left.stages) EXPECT_TRUE(alive[static_cast<size_t>(stage.node)]) << text(left);
  }
}

std::string text(const std::vector<std::vector<StepRows>>& parts) {
  std::string all;
  for (const auto& part : parts) {
    all += "|";
    for (const StepRows& rows : part) all += fmt::format(" {}@{}+{}", rows.sequence, rows.position, rows.count);
  }
  return all;
}

TEST(StepParts, KeepStagesAtWorkAtOnce) {
  const auto parts = [](std::vector<StepRows> rows, int n, int rows_max) { return text(in_parts(rows, n, rows_max)); };
  EXPECT_EQ(parts({{0, 5, 1}}, 3, 64), "| 0@5+1");
  EXPECT_EQ(parts({{0, 5, 1}, {1, 9, 1}, {2, 3, 1}, {3, 7, 1}}, 2, 64), "| 0@5+1 1@9+1 2@3+1 3@7+1");
  EXPECT_EQ(parts({{0, 5, 1}, {1, 9, 1}, {2, 3, 1}}, 4, 2), "| 0@5+1 1@9+1| 2@3+1");
  EXPECT_EQ(parts({{0, 5, 9}}, 3, 64), "| 0@5+9") << "guessed tokens of one sequence stay together";
  EXPECT_EQ(parts({{0, 0, 100}}, 2, 64), "| 0@0+50| 0@50+50") << "a prompt is divided";
  EXPECT_EQ(parts({{0, 0, 100}}, 1, 64), "| 0@0+64| 0@64+36");
  EXPECT_EQ(parts({{7, 3, 1}, {0, 0, 100}}, 2, 64), "| 7@3+1| 0@0+51| 0@51+49");
  EXPECT_EQ(parts({}, 2, 64), "");
}

}  // namespace
}  // namespace hearth::cluster
