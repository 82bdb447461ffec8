// The decision how much to guess, from tables of what was measured.
#include "engine/speculation.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace hearth {
namespace {

// Costs of 1, 2, ... rows, measured once each.
RowCosts costs_of(std::initializer_list<double> seconds) {
  RowCosts costs;
  int rows = 0;
  for (const double each : seconds) costs.add(++rows, each);
  return costs;
}

std::vector<int> choose(const std::vector<std::vector<double>>& chances, const RowCosts& costs, int rows_max = 99) {
  std::vector<std::span<const double>> spans(chances.begin(), chances.end());
  std::vector<int> counts(spans.size(), -1);
  choose_drafts(spans, costs, rows_max, counts);
  return counts;
}

TEST(ChooseDrafts, ForOneSequence) {
  const RowCosts cheap = costs_of({1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7});
  const RowCosts dear = costs_of({1, 2, 3, 4, 5, 6, 7, 8});
  const RowCosts steps = costs_of({1, 1.9, 1.9, 1.9, 3.8, 3.8, 3.8, 3.8});  // kernels take rows by fours
  struct Case {
    const char* what;
    const RowCosts* costs;
    std::vector<double> chances;
    int rows_max, wanted;
  };
  const std::vector<Case> cases{
      {"nothing to guess", &cheap, {}, 99, 0},
      {"sure of all", &cheap, {1, 1, 1, 1, 1, 1, 1}, 99, 7},
      {"no more rows than there may be", &cheap, {1, 1, 1, 1, 1, 1, 1}, 4, 3},
      {"no room at all", &cheap, {1, 1, 1}, 1, 0},
      {"a row for a tenth, a token for one in twenty", &cheap, {0.05}, 99, 0},
      {"one in two for a tenth", &cheap, {0.5}, 99, 1},
      {"after a doubtful one nothing is worth much", &cheap, {0.9, 0.1, 0.9, 0.9}, 99, 1},
      {"rows that cost what a step costs never pay", &dear, {0.99, 0.99, 0.99, 0.99}, 99, 0},
      {"one token is dear, three are not", &steps, {0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8}, 99, 3},
      {"a gain of less than three hundredths is none", &cheap, {0.12}, 99, 0},
  };
  for (const Case& each : cases)
    EXPECT_EQ(choose({each.chances}, *each.costs, each.rows_max), std::vector<int>{each.wanted}) << each.what;
}

TEST(ChooseDrafts, SequencesShareTheRows) {
  const RowCosts costs = costs_of({1, 1.1, 1.15, 1.2, 2.6, 3.9, 5.2, 6.5});
  EXPECT_EQ(choose({{0.9, 0.8}, {0.3, 0.9}}, costs), (std::vector<int>{2, 0})) << "the likelier ones get what is cheap";
  EXPECT_EQ(choose({{0.9, 0.2}, {0.8, 0.2}}, costs), (std::vector<int>{1, 1}));
  EXPECT_EQ(choose({{}, {0.9, 0.9, 0.9}}, costs), (std::vector<int>{0, 2}))
      << "who has nothing to guess waits for nobody";
  const std::vector<std::vector<double>> four(4, {0.9, 0.9});
  EXPECT_EQ(choose(four, costs), (std::vector<int>{0, 0, 0, 0})) << "four rows fill what is cheap already";
  EXPECT_EQ(choose(std::vector<std::vector<double>>(60, {1.0}), costs), std::vector<int>(60)) << "more than is known";
}

TEST(ChooseDrafts, NobodyWaitsLongForTheGuessesOfAnother) {
  const RowCosts costs = costs_of({10, 11, 14, 17, 20, 23, 26, 29});
  const std::vector<double> sure(6, 0.99);
  EXPECT_EQ(choose({sure}, costs, 8), std::vector<int>{6});
  EXPECT_EQ(choose({sure, {}}, costs, 8), (std::vector<int>{0, 0})) << "its step would take a quarter longer";
  const std::vector<int> both = choose({sure, sure}, costs, 8);
  EXPECT_EQ(both, (std::vector<int>{3, 3})) << "who guesses rightly itself has nothing against it";
}

TEST(ChooseDrafts, NothingIsGuessedBeforeAStepWasMeasured) {
  EXPECT_EQ(choose({{1, 1, 1}}, RowCosts()), std::vector<int>{0});
  EXPECT_EQ(choose({}, RowCosts()), std::vector<int>{});
}

// Against all choices there are: the best for one sequence; for several better than nothing and fair to each.
TEST(ChooseDrafts, IsTheBestOfAllForOneAndFairForSeveral) {
  std::mt19937 random(7);
  const auto uniform = [&] { return static_cast<double>(random() % 1000) / 1000; };
  int gained = 0;
  for (int round = 0; round < 600; ++round) {
    RowCosts costs;
    double seconds = 1;
    for (int rows = 1; rows <= 12; ++rows, seconds += 0.6 * uniform()) costs.add(rows, seconds);
    std::vector<std::vector<double>> chances(1 + random() % 3);
    for (auto& each : chances)
      for (size_t i = random() % 4; i > 0; --i) each.push_back(uniform());
    const auto step_seconds = [&](const std::vector<int>& counts) {
      return costs.seconds(static_cast<int>(counts.size()) + std::accumulate(counts.begin(), counts.end(), 0));
    };
    const auto tokens = [&](size_t i, int count) {
      double sum = 1, reached = 1;
      for (int j = 0; j < count; ++j) sum += reached *= chances[i][static_cast<size_t>(j)];
      return sum;
    };
    const auto rate = [&](const std::vector<int>& counts) {
      double sum = 0;
      for (size_t i = 0; i < counts.size(); ++i) sum += tokens(i, counts[i]);
      return sum / step_seconds(counts);
    };
    const std::vector<int> none(chances.size()), chosen = choose(chances, costs);
    gained += chosen != none;
    EXPECT_TRUE(chosen == none || rate(chosen) > 1.03 * rate(none)) << "round " << round;
    for (size_t i = 0; i < chosen.size(); ++i)
      EXPECT_GE(tokens(i, chosen[i]) / step_seconds(chosen), 0.9 / step_seconds(none)) << "round " << round;
    if (chances.size() > 1) continue;
    double best = 0;
    for (int count = 0; count <= static_cast<int>(chances[0].size()); ++count) best = std::max(best, rate({count}));
    EXPECT_DOUBLE_EQ(rate(chosen), best > 1.03 * rate(none) ? best : rate(none)) << "round " << round;
  }
  EXPECT_GT(gained, 50);
}

TEST(PlanGuesses, WeighsWhatAGuessTakes) {
  const RowCosts costs = costs_of({10, 11, 12, 13, 14, 15, 16, 17});
  const auto plan = [&](double chance, double guess_seconds, size_t most = 7) {
    return plan_guesses(std::vector<double>(most, chance), guess_seconds, costs);
  };
  EXPECT_EQ(plan(1, 0).count, 7);
  EXPECT_NEAR(plan(1, 0).rate, 8.0 / 17, 1e-12);
  EXPECT_EQ(plan(1, 0, 3).count, 3);
  EXPECT_EQ(plan(0.8, 20).count, 0) << "a guess that takes longer than a step";
  EXPECT_NEAR(plan(0.8, 20).rate, 0.1, 1e-12);
  EXPECT_EQ(plan(0.05, 1).count, 0);
  EXPECT_GT(plan(0.8, 1).count, plan(0.8, 4).count);
  EXPECT_GT(plan(0.8, 4).count, 0);
  EXPECT_EQ(plan_guesses(std::vector<double>(3, 1.0), 0, RowCosts()).count, 0) << "nothing was measured yet";
}

TEST(PlanGuesses, ALikelierGuessSpeaksForMore) {
  int before = 2;
  for (int percent = 0; percent <= 100; ++percent) {
    const int match = match_of(percent / 100.0);
    EXPECT_GE(match, before) << percent;
    before = match;
  }
  EXPECT_EQ(before, 32);
}

TEST(RowCosts, LieOnLinesBetweenWhatWasMeasured) {
  RowCosts costs;
  EXPECT_EQ(costs.seconds(1), 0);
  costs.add(1, 10);
  EXPECT_DOUBLE_EQ(costs.seconds(1), 10);
  EXPECT_GT(costs.seconds(8), 20);
  EXPECT_LT(costs.seconds(8), 80) << "good enough a guess that it is tried once";
  costs.add(8, 24);
  EXPECT_DOUBLE_EQ(costs.seconds(8), 24);
  EXPECT_DOUBLE_EQ(costs.seconds(4), 16);
  EXPECT_GT(costs.seconds(12), 24);
  costs.add(0, 1), costs.add(1000, 1);  // not kept, and no harm
  EXPECT_DOUBLE_EQ(costs.seconds(8), 24);
}

TEST(RowCosts, AMomentOfOtherWorkIsNoCostOfRows) {
  RowCosts costs;
  for (int i = 0; i < 100; ++i) costs.add(4, 10);
  for (int i = 0; i < 5; ++i) costs.add(4, 500);
  EXPECT_LT(costs.seconds(4), 12);
  for (int i = 0; i < 300; ++i) costs.add(4, 15);
  EXPECT_NEAR(costs.seconds(4), 15, 0.1) << "what lasts is believed";
}

// Else a program that starts while others are busy would guess nothing for a thousand steps.
TEST(RowCosts, ABadMomentAtTheBeginningIsNotBelieved) {
  RowCosts costs;
  for (int i = 0; i < 5; ++i) costs.add(1, 10);
  costs.add(4, 500);
  EXPECT_LT(costs.seconds(4), 30);
  for (int i = 0; i < 5; ++i) costs.add(4, 500);
  EXPECT_GT(costs.seconds(4), 400) << "but what is dear every time is";
  for (int i = 0; i < 3; ++i) costs.add(8, 24);
  EXPECT_LE(costs.seconds(4), 24) << "fewer rows are no dearer than more";
}

TEST(RowCosts, WhatWasMeasuredLongAgoIsTriedAgain) {
  RowCosts costs;
  costs.add(1, 10);
  costs.add(8, 1000);  // a bad moment
  for (int i = 0; i < 1100; ++i) costs.add(1, 10);
  EXPECT_LT(costs.seconds(8), 50);
}

TEST(Acceptance, FollowsWhatComesTrueForItsSourceAndLength) {
  Acceptance acceptance;
  const double before = acceptance.chance(DraftSource::kText, 2, Acceptance::expected(2));
  EXPECT_DOUBLE_EQ(before, Acceptance::expected(2));
  for (int i = 0; i < 60; ++i)
    acceptance.add(DraftSource::kText, 2, i % 10 == 0), acceptance.add(DraftSource::kText, 20, true);
  EXPECT_NEAR(acceptance.chance(DraftSource::kText, 2, 0.35), 0.13, 0.06);
  EXPECT_GT(acceptance.chance(DraftSource::kText, 30, 0.9), 0.97);
  EXPECT_DOUBLE_EQ(acceptance.chance(DraftSource::kAnswers, 2, 0.4), 0.4) << "another source is judged by itself";
  for (int i = 0; i < 20; ++i) acceptance.add(DraftSource::kText, 2, true);
  EXPECT_GT(acceptance.chance(DraftSource::kText, 2, 0.35), 0.6) << "a text that begins to repeat itself is noticed";
}

TEST(Acceptance, ExpectsMoreOfLongerMatches) {
  for (int match = 1; match < 40; ++match) EXPECT_LE(Acceptance::expected(match), Acceptance::expected(match + 1));
}

}  // namespace
}  // namespace hearth
