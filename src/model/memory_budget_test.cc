#include "model/memory_budget.h"

#include <gtest/gtest.h>

#include "model/golden_models.h"

namespace hearth {
namespace {

// Ten layers of 100 bytes in two matrices and 100 of others; a position is 4, 2 or 1 bytes.
MemoryNeeds needs() {
  static const std::vector<std::vector<uint64_t>> kLayers(10, {60, 40});
  return {
      .program_bytes = 100,
      .weight_bytes = 1100,
      .weights =
          [](uint64_t bytes_max) { return plan_stream({.layers = kLayers, .others = 100, .experts = {}}, bytes_max); },
      .kv_bytes =
          [](KvType type, int context) {
            return static_cast<uint64_t>(context * (type == KvType::kF16 ? 4 : type == KvType::kI8 ? 2 : 1));
          }};
}
const std::vector<KvType> kTypes{KvType::kF16, KvType::kI8};

TEST(MemoryBudget, NothingGivesWayWhereAllFits) {
  const auto fit = fit_memory(needs(), {.context = 500, .parallel = 2, .kv_types = kTypes}, 5200);
  ASSERT_EQ(message(fit), "");
  EXPECT_EQ(fit->kv_type, KvType::kF16);
  EXPECT_EQ(fit->weights.read_bytes, 0U);
  EXPECT_EQ(fit->total_bytes(), 5200U);
}

TEST(MemoryBudget, KeysAndValuesGiveWayFirstThenWeights) {
  const MemoryWish wish{.context = 500, .parallel = 2, .kv_types = kTypes};
  const auto smaller = fit_memory(needs(), wish, 5199);
  ASSERT_EQ(message(smaller), "");
  EXPECT_EQ(smaller->kv_type, KvType::kI8);
  EXPECT_EQ(smaller->weights.read_bytes, 0U);
  const auto fewer = fit_memory(needs(), wish, 3000);  // not all of both conversations at once
  ASSERT_EQ(message(fewer), "");
  EXPECT_EQ(fewer->kv_type, KvType::kI8);
  EXPECT_EQ(fewer->weights.read_bytes, 0U);
  EXPECT_EQ(fewer->kv_bytes, 1792U) << "whole pages";
  EXPECT_EQ(fewer->kv_pages, 28);
  const auto streamed = fit_memory(needs(), wish, 2000);
  ASSERT_EQ(message(streamed), "");
  EXPECT_EQ(streamed->kv_bytes, 1000U) << "one conversation";
  EXPECT_GT(streamed->weights.read_bytes, 0U);
  EXPECT_LE(streamed->total_bytes(), 2000U);
}

TEST(MemoryBudget, WhatDoesNotFitSaysWhatWould) {
  const MemoryWish wish{.context = 4096, .parallel = 4, .kv_types = {KvType::kF16}};
  const auto none = fit_memory(needs(), wish, 10000);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("--context"), std::string::npos) << none.error().message;
  const auto nearest = nearest_fit(needs(), wish, 10000);
  ASSERT_TRUE(nearest);
  EXPECT_LE(nearest->total_bytes(), 10000U);
  EXPECT_EQ(nearest->context, 2048);
  EXPECT_FALSE(nearest_fit(needs(), wish, 300));
}

TEST(MemoryBudget, EveryBudgetIsKept) {
  for (uint64_t bytes = 300; bytes < 6000; bytes += 13) {
    const auto fit = fit_memory(needs(), {.context = 256, .parallel = 1, .kv_types = kTypes}, bytes);
    if (fit) {
      EXPECT_LE(fit->total_bytes(), bytes);
    } else {
      EXPECT_LT(bytes, 1000U);
    }
  }
}

// The same model while it runs, with pages of 32 bytes.
RunningNeeds running() {
  return {.weight_bytes = 1100,
          .page_bytes = 32,
          .pages_max = 40,
          .pages_one = 10,
          .pages_least = 2,
          .weights = needs().weights};
}

TEST(MemoryBudget, AModelThatRunsGivesWayInOrderAndGrowsAgain) {
  const auto at = [](uint64_t bytes) { return fit_running(running(), bytes).value(); };
  EXPECT_EQ(at(1100 + 40 * 32).pages, 40);
  EXPECT_EQ(at(1 << 20).pages, 40);
  EXPECT_EQ(at(1100 + 39 * 32 + 31).pages, 39) << "first conversations beside the one";
  EXPECT_EQ(at(1100 + 39 * 32).weight_bytes, 1100U);
  EXPECT_EQ(at(1100 + 10 * 32 - 1).pages, 10) << "then weights";
  EXPECT_LT(at(1100 + 10 * 32 - 1).weight_bytes, 1100U);
  const RunningFit least = at(300 + 5 * 32);  // then how long the one may become
  EXPECT_EQ(least.pages, 5);
  EXPECT_TRUE(needs().weights(least.weight_bytes));
  const auto none = fit_running(running(), 300);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::kLimit);
  for (uint64_t bytes = 400; bytes < 4000; bytes += 7) {
    const RunningFit fit = at(bytes);
    EXPECT_LE(fit.weight_bytes + static_cast<uint64_t>(fit.pages) * 32, bytes);
    EXPECT_TRUE(needs().weights(fit.weight_bytes));
  }
}

TEST(MemoryBudget, AModelWithoutPagesHasAllItsConversations) {
  RunningNeeds recurrent = running();
  recurrent.page_bytes = 0;
  EXPECT_EQ(fit_running(recurrent, 1100)->pages, 40);
}

}  // namespace
}  // namespace hearth
