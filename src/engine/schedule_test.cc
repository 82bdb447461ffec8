#include "engine/schedule.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

using Shares = std::vector<std::pair<int, int>>;

Shares compose(std::vector<Runnable> runnables, int rows_max, int mixed = 512, size_t first = 0) {
  Shares out;
  std::vector<Share> shares;
  compose_step(runnables, {.rows_max = rows_max, .prefill_max = 512, .mixed_prefill = mixed}, first, shares);
  for (const Share share : shares) out.emplace_back(share.index, share.count);
  return out;
}

constexpr Runnable kDecode{.waiting = 1, .prefill = false};
Runnable prompt(int waiting, Precedence precedence = {}) {
  return {.waiting = waiting, .prefill = true, .precedence = precedence};
}

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
  EXPECT_TRUE(compose({{.waiting = 0, .prefill = false}, prompt(0)}, 512).empty());
}

TEST(ComposeStep, APromptOfOneTokenStillRuns) { EXPECT_EQ(compose({prompt(1)}, 512), (Shares{{0, 1}})); }

TEST(ComposeStep, ShortPromptsShareAChunkInTheOrderOfPrecedence) {
  EXPECT_EQ(compose({prompt(30, {.arrival = 2}), prompt(40, {.arrival = 1}), prompt(100, {.arrival = 3})}, 512, 64),
            (Shares{{1, 40}, {0, 30}, {2, 100}}));
  EXPECT_EQ(compose({kDecode, prompt(30, {.arrival = 2}), prompt(40, {.arrival = 1})}, 512, 64),
            (Shares{{0, 1}, {2, 40}, {1, 24}}));
}

TEST(ComposeStep, BatchWorkStandsStillWhileRealTimeWorkRuns) {
  const Precedence realtime{.request_class = RequestClass::kRealtime}, batch{.request_class = RequestClass::kBatch};
  Runnable writes_batch = kDecode;
  writes_batch.precedence = batch;
  EXPECT_EQ(compose({writes_batch, kDecode, prompt(20, batch), prompt(10, realtime)}, 512), (Shares{{1, 1}, {3, 10}}));
  EXPECT_EQ(compose({writes_batch, prompt(20, batch)}, 512), (Shares{{0, 1}, {1, 20}}));
}

TEST(PrecedenceOrder, ClassThenDeadlineThenPriorityThenShareThenArrival) {
  const std::vector<Precedence> in_order{
      {.request_class = RequestClass::kRealtime, .deadline = 5},
      {.request_class = RequestClass::kRealtime, .deadline = 9, .priority = 3},
      {.request_class = RequestClass::kInteractive, .deadline = 1},
      {.request_class = RequestClass::kInteractive, .priority = 2, .tenant_served = 50},
      {.request_class = RequestClass::kInteractive, .tenant_served = 10, .arrival = 8},
      {.request_class = RequestClass::kInteractive, .tenant_served = 10, .arrival = 9},
      {.request_class = RequestClass::kInteractive, .tenant_served = 11, .arrival = 1},
      {.request_class = RequestClass::kBatch, .deadline = 0}};
  for (size_t i = 0; i < in_order.size(); ++i)
    for (size_t k = 0; k < in_order.size(); ++k)
      EXPECT_EQ(before(in_order[i], in_order[k]), i < k) << i << " and " << k;
}

// A box that is never idle: the places are asked for by more interactive work than there is room for, and by one that comes after it
// in the order for good. It gets its turn all the same; real-time work never gives way.
TEST(ChooseWaiting, NobodyWaitsForEver) {
  const auto of = [](RequestClass request_class, double seconds, Precedence precedence = {}) {
    precedence.request_class = request_class;
    return Waiting{precedence, seconds};
  };
  constexpr auto kRealtime = RequestClass::kRealtime, kInteractive = RequestClass::kInteractive,
                 kBatch = RequestClass::kBatch;
  const struct {
    const char* what;
    std::vector<Waiting> waiting;
    bool overdue_turn;
    int chosen;
  } rows[] = {
      {"nobody", {}, true, -1},
      {"the order", {of(kBatch, 29), of(kInteractive, 1)}, true, 1},
      {"a batch that is overdue", {of(kBatch, 30), of(kInteractive, 1)}, true, 0},
      {"but not twice in one time", {of(kBatch, 300), of(kInteractive, 1)}, false, 1},
      {"never before real-time work", {of(kBatch, 300), of(kInteractive, 300), of(kRealtime, 0)}, true, 2},
      {"a low priority", {of(kInteractive, 1, {.priority = 9}), of(kInteractive, 31, {.priority = -9})}, true, 1},
      {"a late deadline", {of(kInteractive, 1, {.deadline = 3}), of(kInteractive, 31, {.deadline = 99})}, true, 1},
      {"a tenant that had much", {of(kInteractive, 45, {.tenant_served = 9e9}), of(kInteractive, 31)}, true, 0},
      {"the longest of several", {of(kBatch, 40), of(kBatch, 50), of(kInteractive, 0)}, true, 1},
  };
  for (const auto& row : rows) EXPECT_EQ(choose_waiting(row.waiting, 30, row.overdue_turn), row.chosen) << row.what;
}

TEST(PaceOfSteps, AChunkBesideOthersIsAsLongAsAFewOfTheirSteps) {
  Pace pace;
  EXPECT_EQ(pace.mixed_prefill(512), 64) << "nothing was measured yet";
  EXPECT_EQ(pace.rows_within(1, 512), 128);
  EXPECT_EQ(pace.rows_within(1, 100), 100);
  pace.add(0, 8, 0.050);
  pace.add(100, 0, 0.100);
  EXPECT_DOUBLE_EQ(pace.decode_step_seconds(), 0.050);
  EXPECT_DOUBLE_EQ(pace.prompt_row_seconds(), 0.001);
  EXPECT_EQ(pace.mixed_prefill(512), 192);
  EXPECT_EQ(pace.mixed_prefill(128), 128);
  EXPECT_EQ(pace.rows_within(200 * pace.prompt_row_seconds(), 512), 192);
  EXPECT_EQ(pace.rows_within(2 * pace.prompt_row_seconds(), 512), 64);
  EXPECT_EQ(pace.rows_within(1e9, 512), 512);
  pace.add(100, 8, 0.550);  // five times slower for a while
  EXPECT_NEAR(pace.prompt_row_seconds(), 0.0018, 1e-9);
  pace.add(1, 1, 99);
  EXPECT_NEAR(pace.prompt_row_seconds(), 0.0018, 1e-9) << "single rows say nothing about prompts";
}

}  // namespace
}  // namespace hearth
