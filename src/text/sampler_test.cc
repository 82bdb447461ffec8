#include "text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace hearth {
namespace {

std::vector<float> logits() { return {0.0f, 3.0f, 1.0f, 3.0f, -2.0f, 2.5f}; }

Token once(SamplingOptions options, std::span<const Token> history = {}, int64_t position = 0) {
  auto values = logits();
  return Sampler(std::move(options)).sample(values, history, position);
}

SamplingOptions plain() { return {.temperature = 1.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.0f}; }

TEST(Sampler, GreedyTakesTheFirstOfEquals) { EXPECT_EQ(once({.temperature = 0.0f}), 1); }

TEST(Sampler, DrawsDependOnSeedAndPositionAlone) {
  auto options = plain();
  options.seed = 7;
  EXPECT_EQ(once(options, {}, 5), once(options, {}, 5));
  std::map<Token, int> seen;
  for (int64_t position = 0; position < 500; ++position) ++seen[once(options, {}, position)];
  EXPECT_GE(seen.size(), 4u) << "temperature 1 must reach the less likely tokens";
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  auto options = plain();
  std::map<Token, double> seen;
  constexpr int kDraws = 20000;
  for (int64_t position = 0; position < kDraws; ++position) seen[once(options, {}, position)] += 1.0 / kDraws;
  double total = 0.0;
  for (const float l : logits()) total += std::exp(l);
  for (size_t i = 0; i < logits().size(); ++i)
    EXPECT_NEAR(seen[static_cast<Token>(i)], std::exp(logits()[i]) / total, 0.015);
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  for (int64_t position = 0; position < 300; ++position) {
    auto top_k = plain(), top_p = plain(), min_p = plain();
    top_k.top_k = 2;
    EXPECT_TRUE(once(top_k, {}, position) == 1 || once(top_k, {}, position) == 3);
    top_p.top_p = 0.3f;
    EXPECT_EQ(once(top_p, {}, position), 1) << "the most likely token alone reaches 0.3";
    min_p.min_p = 0.5f;  // keeps logits within ln 2 of the best
    const Token token = once(min_p, {}, position);
    EXPECT_TRUE(token == 1 || token == 3 || token == 5) << token;
  }
}

TEST(Sampler, PenaltiesAndBias) {
  SamplingOptions greedy{.temperature = 0.0f};
  const std::vector<Token> history{1, 1, 3, 999, -5};  // ids outside the vocabulary are ignored
  auto repetition = greedy, presence = greedy, frequency = greedy, bias = greedy, window = greedy;
  repetition.repetition_penalty = 2.0f;
  EXPECT_EQ(once(repetition, history), 5);
  presence.presence_penalty = 0.2f;
  EXPECT_EQ(once(presence, history), 1);
  frequency.frequency_penalty = 0.2f;
  EXPECT_EQ(once(frequency, history), 3) << "seen once, so less penalised than the one seen twice";
  bias.logit_bias = {{4, 100.0f}, {100000, 5.0f}};
  EXPECT_EQ(once(bias), 4);
  window.repetition_penalty = 2.0f;
  window.penalty_window = 2;
  EXPECT_EQ(once(window, history), 1) << "the repeats lie outside the window";
}

TEST(Sampler, RefusesOptionsThatMakeNoSense) {
  EXPECT_FALSE(check({.temperature = -1.0f}));
  EXPECT_FALSE(check({.temperature = std::numeric_limits<float>::quiet_NaN()}));
  EXPECT_FALSE(check({.top_k = -1}));
  EXPECT_FALSE(check({.top_p = 1.5f}));
  EXPECT_FALSE(check({.repetition_penalty = 0.0f}));
  EXPECT_FALSE(check({.logit_bias = {{-1, 0.0f}}}));
  EXPECT_TRUE(check(SamplingOptions{}));
}

// The engine hands over only the most likely tokens where that is enough: a user may not be able to tell.
TEST(Sampler, DrawsTheSameFromTheMostLikelyAlone) {
  std::vector<float> all;
  for (int i = 0; i < 400; ++i) all.push_back(static_cast<float>((i * 7919) % 61) / 8.0f);  // with many ties
  std::vector<Token> order(all.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](Token a, Token b) { return all[static_cast<size_t>(a)] > all[static_cast<size_t>(b)]; });
  std::vector<float> sorted;
  for (const Token token : order) sorted.push_back(all[static_cast<size_t>(token)]);
  for (const auto& [temperature, top_k] : {std::pair{0.0f, 40}, {0.8f, 40}, {1.5f, 1}, {1.0f, 250}, {1.0f, 7}}) {
    SamplingOptions options{.temperature = temperature, .top_k = top_k, .top_p = 0.97f, .min_p = 0.01f, .seed = 3};
    Sampler sampler(options);
    const auto needed = static_cast<size_t>(sampler.tokens_needed());
    ASSERT_GT(needed, 0u);
    for (int64_t position = 0; position < 200; ++position) {
      std::vector<float> values = all;
      const Token expected = sampler.sample(values, {}, position);
      EXPECT_EQ(sampler.sample_top(std::span(order).first(needed), sorted, position), expected);
      EXPECT_EQ(sampler.sample_top(order, sorted, position), expected) << "more than it needs";
    }
  }
  EXPECT_EQ(Sampler(plain()).tokens_needed(), 0) << "all tokens may be drawn";
  EXPECT_EQ(Sampler({.temperature = 0.0f, .presence_penalty = 0.1f}).tokens_needed(), 0)
      << "penalties change the order";
}

}  // namespace
}  // namespace hearth
