#include "engine/schedule.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

using Shares = std::vector<std::pair<int, int>>;

Shares compose(std::vector<Runnable> runnables, int rows_max, int prefill_max = 512, size_t first = 0) {
  Shares out;
  for (const Share share : compose_step(runnables, rows_max, prefill_max, first))
    out.emplace_back(share.index, share.count);
  return out;
}

constexpr Runnable kDecode{.sequence = 0, .waiting = 1, .prefill = false};
Runnable prompt(int waiting) { return {.sequence = 0, .waiting = waiting, .prefill = true}; }

TEST(ComposeStep, GeneratingSequencesComeBeforeOneChunkOfPrompt) {
  EXPECT_EQ(compose({prompt(1000), kDecode, prompt(50), kDecode}, 512), (Shares{{1, 1}, {3, 1}, {0, 510}}));
  EXPECT_EQ(compose({prompt(1000), kDecode}, 512, 64), (Shares{{1, 1}, {0, 64}}));
}

TEST(ComposeStep, MoreSequencesThanRowsTakeTurns) {
  const std::vector<Runnable> four(4, kDecode);
  EXPECT_EQ(compose(four, 2, 512, 0), (Shares{{0, 1}, {1, 1}}));
  EXPECT_EQ(compose(four, 2, 512, 3), (Shares{{3, 1}, {0, 1}}));
}

TEST(ComposeStep, NothingToDoIsAnEmptyStep) {
  EXPECT_TRUE(compose({}, 512).empty());
  EXPECT_TRUE(compose({{.sequence = 0, .waiting = 0, .prefill = false}, prompt(0)}, 512).empty());
}

TEST(ComposeStep, APromptOfOneTokenStillRuns) { EXPECT_EQ(compose({prompt(1)}, 512), (Shares{{0, 1}})); }

}  // namespace
}  // namespace hearth
