#include "compress/mix.h"

#include <gtest/gtest.h>

namespace hearth::compress {
namespace {

std::vector<MatrixChoices> two_matrices() {
  const TypeInfo &small = info(Type::kI4), &large = info(Type::kI8);
  return {{.name = "a", .choices = {{&small, 1000, 0.4}, {&large, 2000, 0.01}}},
          {.name = "b", .choices = {{&small, 1000, 0.1}, {&large, 2000, 0.01}, {&large, 1500, 0, true}}}};
}

// A file whose parts are rounded up to 512 bytes after a head of 100.
Result<uint64_t> rounded_up(const TypePlan& plan) {
  uint64_t bytes = 100;
  for (const auto& [name, type] : plan) bytes += type->type == Type::kI4 ? 1024 : 2048;
  if (!plan.contains("b")) bytes += 1536;
  return bytes;
}

TEST(Mix, TheFileIsNotLargerThanTheTargetThoughItsPartsAreRoundedUp) {
  const auto matrices = two_matrices();
  for (uint64_t target = 2148; target < 4500; target += 7) {
    const auto mix = choose_mix(matrices, {}, {.bytes = target, .divergence = {}}, rounded_up);
    ASSERT_TRUE(mix) << mix.error().message;
    EXPECT_LE(mix->expected.bytes, target);
    EXPECT_EQ(mix->expected.bytes, *rounded_up(mix->plan));
  }
  EXPECT_EQ(choose_mix(matrices, {}, {.bytes = 3172, .divergence = {}}, rounded_up)->plan.at("a")->type, Type::kI8);
}

TEST(Mix, AMatrixThatStaysAsItIsIsNotInThePlan) {
  const auto mix = choose_mix(two_matrices(), {}, {.bytes = 1 << 20, .divergence = {}}, rounded_up);
  ASSERT_TRUE(mix);
  EXPECT_TRUE(mix->plan.contains("a"));
  EXPECT_FALSE(mix->plan.contains("b"));
}

TEST(Mix, WhatCannotBeReachedIsAnErrorThatSaysWhatCan) {
  const auto small = choose_mix(two_matrices(), {}, {.bytes = 2000, .divergence = {}}, rounded_up);
  ASSERT_FALSE(small);
  EXPECT_NE(small.error().message.find("2148"), std::string::npos) << small.error().message;
  const auto good = choose_mix(two_matrices(), {}, {.bytes = {}, .divergence = 0.001}, rounded_up);
  ASSERT_FALSE(good);
  EXPECT_NE(good.error().message.find("0.01"), std::string::npos) << good.error().message;
}

TEST(Mix, TypesThatAreGivenAreKept) {
  const auto matrices = two_matrices();
  const TypePlan fixed{{"head", &info(Type::kI6)}};
  const auto mix = choose_mix(std::span(matrices).first(1), fixed, {.bytes = {}, .divergence = 0.5}, rounded_up);
  ASSERT_TRUE(mix);
  EXPECT_EQ(mix->plan.at("head")->type, Type::kI6);
  EXPECT_EQ(mix->plan.at("a")->type, Type::kI4);
  EXPECT_GT(mix->curve.back().bytes, mix->curve.front().bytes);
  EXPECT_LT(mix->curve.back().divergence, mix->curve.front().divergence);
}

}  // namespace
}  // namespace hearth::compress
