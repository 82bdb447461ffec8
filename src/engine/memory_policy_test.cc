#include "engine/memory_policy.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A machine that samples are taken of four times a second.
class MemoryPolicyTest : public testing::Test {
 protected:
  // Lets time pass in which somebody waits for memory for this part of it; the last bound.
  uint64_t pass(double seconds, double stalled) {
    uint64_t bound = 0;
    for (double t = 0; t < seconds; t += 0.25) {
      now_ += 0.25;
      stalled_ += 0.25 * stalled;
      bound = policy_.decide(
          {.seconds = now_, .resident_bytes = resident_, .group_limit_bytes = group_, .stalled_seconds = stalled_});
    }
    return bound;
  }
  MemoryPolicy policy_{1000 * kMiB};
  double now_ = 100, stalled_ = 7;
  uint64_t resident_ = 1000 * kMiB;
  std::optional<uint64_t> group_;
};

TEST_F(MemoryPolicyTest, WhatIsAskedForHoldsAtOnce) {
  EXPECT_EQ(pass(5, 0), 1000 * kMiB);
  policy_.ask(400 * kMiB);
  EXPECT_EQ(pass(0.25, 0), 400 * kMiB);
  EXPECT_EQ(policy_.reason(), "");
}

TEST_F(MemoryPolicyTest, AControlGroupThatBecomesSmallerIsKeptAndLeftWhenItGrows) {
  group_ = 1032 * kMiB;
  EXPECT_EQ(pass(1, 0), 1000 * kMiB) << "32 MiB more than asked for is enough";
  group_ = 500 * kMiB;
  EXPECT_EQ(pass(0.25, 0), 468 * kMiB);
  EXPECT_NE(policy_.reason().find("500 MiB"), std::string::npos) << policy_.reason();
  group_ = 1;
  EXPECT_EQ(pass(0.25, 0), 0u) << "nothing below nothing";
  group_.reset();
  EXPECT_EQ(pass(0.25, 0), 1000 * kMiB);
}

TEST_F(MemoryPolicyTest, PressureTakesMemoryAwayWithinTwoSecondsAndCalmGivesItBack) {
  EXPECT_EQ(pass(5, 0.05), 1000 * kMiB) << "a little waiting is no reason";
  const uint64_t pressed = pass(2, 0.5);
  EXPECT_LE(pressed, 900 * kMiB);
  EXPECT_NE(policy_.reason(), "");
  EXPECT_GE(pass(60, 0.5), 250 * kMiB) << "a quarter stays";
  EXPECT_LE(pass(5, 0), 300 * kMiB) << "not up and down";
  EXPECT_EQ(pass(120, 0), 1000 * kMiB);
  EXPECT_EQ(policy_.reason(), "");
}

TEST_F(MemoryPolicyTest, PressureBeginsFromWhatIsInMemory) {
  resident_ = 400 * kMiB;
  EXPECT_LT(pass(2.25, 0.5), 400 * kMiB) << "what was never taken helps nobody when it is given up";
}

TEST_F(MemoryPolicyTest, ACounterThatBeginsAnewIsNoPressure) {
  pass(3, 0);
  stalled_ = 0;  // another control group
  EXPECT_EQ(pass(3, 0), 1000 * kMiB);
}

}  // namespace
}  // namespace hearth
