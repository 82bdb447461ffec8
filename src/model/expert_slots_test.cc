// Which experts stay: those that are used, not those that merely came last.
#include "model/expert_slots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace hearth {
namespace {

TEST(ExpertSlots, TakesFreeOnesThenThatOfTheLeastUsed) {
  ExpertSlots slots(10);
  slots.resize(2);
  slots.use(3, 5), slots.use(4, 1), slots.use(7, 2);
  EXPECT_FALSE(slots.find(3));
  slots.let_go(*slots.take(3));
  slots.let_go(*slots.take(4));
  const auto place_of_4 = slots.find(4);
  EXPECT_EQ(slots.take(7), place_of_4);
  EXPECT_FALSE(slots.find(4));
  EXPECT_TRUE(slots.find(3));
}

TEST(ExpertSlots, NeverTakesWhatIsHeld) {
  ExpertSlots slots(10);
  slots.resize(2);
  const size_t first = *slots.take(0);
  ASSERT_TRUE(slots.take(1));
  EXPECT_FALSE(slots.take(2)) << "a slot that is computed with was given away";
  slots.let_go(first);
  EXPECT_EQ(slots.take(2), first);
}

TEST(ExpertSlots, ForgetsWhatWasUsedLongAgo) {
  ExpertSlots slots(3, 10);
  slots.resize(2);
  slots.use(0, 100);
  slots.let_go(*slots.take(0));
  slots.pass(100);  // ten half-lives: a hundred rows count a tenth of one
  slots.use(1, 1);
  slots.let_go(*slots.take(1));
  ASSERT_TRUE(slots.take(2));
  EXPECT_FALSE(slots.find(0));
  // Scores of a long run stay apart and finite.
  for (int i = 0; i < 100'000; ++i) slots.pass(7), slots.use(2, 1);
  slots.use(0, 1), slots.use(1, 1);
  slots.let_go(*slots.find(1));
  EXPECT_TRUE(slots.take(0));
  EXPECT_TRUE(slots.find(2));
}

TEST(ExpertSlots, KeepsWhatIsInTheSlotsThatStay) {
  ExpertSlots slots(10);
  slots.resize(4);
  for (size_t i = 0; i < 4; ++i) ASSERT_TRUE(slots.take(i));
  slots.resize(2);
  EXPECT_TRUE(slots.find(0) && slots.find(1));
  EXPECT_FALSE(slots.find(2) || slots.find(3));
  slots.resize(3);
  EXPECT_EQ(slots.take(3), 2U) << "the new slot is free, and nothing is held after a change";
}

// Hits of all uses while tokens pass through layers that each use some of their experts.
struct Mixture {
  size_t layers = 8, experts = 32, used = 4, slots = 0;
  double skew = 0;  // an expert of rank i is chosen in proportion to (i + 1)^-skew
};
double hit_share(const Mixture& m, int tokens) {
  std::mt19937 random(7);
  std::vector<double> weights(m.experts);
  for (size_t i = 0; i < m.experts; ++i) weights[i] = std::pow(static_cast<double>(i + 1), -m.skew);
  std::discrete_distribution<size_t> choose(weights.begin(), weights.end());
  ExpertSlots slots(m.layers * m.experts);
  slots.resize(m.slots);
  int hits = 0, all = 0;
  for (int token = 0; token < tokens; ++token)
    for (size_t layer = 0; layer < m.layers; ++layer) {
      slots.pass(1.0 / static_cast<double>(m.layers));
      std::vector<size_t> needed, held;
      while (needed.size() < m.used) {
        const size_t expert = layer * m.experts + choose(random);
        if (std::ranges::find(needed, expert) == needed.end()) needed.push_back(expert);
      }
      for (const size_t expert : needed) slots.use(expert, 1);
      for (const size_t expert : needed) {
        auto slot = slots.find(expert);
        hits += slot.has_value(), ++all;
        if (slot)
          slots.hold(*slot);
        else
          slot = slots.take(expert);
        held.push_back(*slot);
      }
      for (const size_t slot : held) slots.let_go(slot);
    }
  return static_cast<double>(hits) / all;
}

// Routing that prefers nobody cannot be beaten: the share of hits is the share of slots. Skewed routing must do far better; an
// LRU cache that is smaller than what one token uses (here 32 experts) would have no hit at all.
TEST(ExpertSlots, HitAsOftenAsTheRoutingAllows) {
  EXPECT_GT(hit_share({.slots = 77}, 500), 0.85 * 77 / 256);
  EXPECT_GT(hit_share({.slots = 20}, 500), 0.6 * 20 / 256);
  EXPECT_GT(hit_share({.slots = 77, .skew = 1.0}, 500), 0.55);
  EXPECT_GT(hit_share({.slots = 20, .skew = 1.0}, 500), 0.2);
}

}  // namespace
}  // namespace hearth
