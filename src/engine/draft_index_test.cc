// Guesses from what stood there before.
#include "engine/draft_index.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth {
namespace {

std::vector<Token> guess(const DraftIndex& index, std::span<const Token> text, size_t n) {
  std::vector<Token> out(n);
  const DraftIndex::Match match = index.find(text);
  if (match.length == 0) return {};
  index.copy(match, out);
  return out;
}

TEST(DraftIndex, GuessesWhatFollowedTheSameTokensBefore) {
  DraftIndex index(1000);
  const std::vector<Token> text{1, 2, 3, 4, 5, 6, 9, 9, 2, 3, 4};
  index.append(text);
  EXPECT_EQ(index.find(text).length, 3);
  EXPECT_EQ(guess(index, text, 3), (std::vector<Token>{5, 6, 9}));
  EXPECT_EQ(index.find(std::vector<Token>{7, 7, 7}).length, 0);
  EXPECT_EQ(index.find(std::vector<Token>{4}).length, 0) << "one token says too little";
  EXPECT_EQ(index.find({}).length, 0);
}

TEST(DraftIndex, PrefersTheLongerMatchThenTheNewer) {
  DraftIndex index(1000);
  // "2 3" stands there three times; the one with 1 before it agrees in three tokens.
  index.append(std::vector<Token>{1, 2, 3, 50, 8, 2, 3, 60, 9, 2, 3, 70});
  EXPECT_EQ(guess(index, std::vector<Token>{1, 2, 3}, 1), std::vector<Token>{50});
  EXPECT_EQ(guess(index, std::vector<Token>{5, 2, 3}, 1), std::vector<Token>{70});
}

TEST(DraftIndex, ATextThatRepeatsItselfGoesOnDoingSo) {
  DraftIndex index(1000);
  const std::vector<Token> text{7, 5, 6, 5, 6, 5, 6};
  index.append(text);
  EXPECT_EQ(guess(index, text, 5), (std::vector<Token>{5, 6, 5, 6, 5}));
}

TEST(DraftIndex, AnswersOfOneTextAreLookedUpInAnother) {
  DraftIndex index(1000);
  index.append(std::vector<Token>{10, 11, 12, 13});
  index.append(std::vector<Token>{14, 15});
  EXPECT_EQ(guess(index, std::vector<Token>{99, 11, 12}, 3), (std::vector<Token>{13, 14, 15}));
}

// Against a search of everything: what is found agrees in as many tokens as it says, is longest where all places are looked at, and
// nothing older than the bound is.
TEST(DraftIndex, FindsWhatASearchFindsAndForgetsWhatIsOld) {
  constexpr size_t kMost = 300;
  std::mt19937 random(1);
  DraftIndex index(kMost);
  std::vector<Token> all;
  int found = 0;
  for (int step = 0; step < 3000; ++step) {
    const Token token = static_cast<Token>(random() % 40);
    all.push_back(token);
    index.append({&token, 1});
    ASSERT_LE(index.size(), kMost);
    const auto kept = std::span<const Token>(all).last(index.size());
    ASSERT_GE(index.size(), std::min(all.size(), kMost / 2));
    size_t longest = 0;
    for (size_t place = 1; place < kept.size(); ++place) {
      size_t length = 0;
      while (length < place && kept[place - 1 - length] == all[all.size() - 1 - length]) ++length;
      longest = std::max(longest, length);
    }
    const DraftIndex::Match match = index.find(all);
    EXPECT_EQ(match.length, longest < 2 ? 0 : static_cast<int>(longest)) << "step " << step;
    for (int i = 0; i < match.length; ++i)
      ASSERT_EQ(kept[match.place - 1 - static_cast<size_t>(i)], all[all.size() - 1 - static_cast<size_t>(i)]);
    found += match.length > 0 ? 1 : 0;
  }
  EXPECT_GT(found, 100);
}

TEST(DraftIndex, TakesMoreAtOnceThanItKeeps) {
  DraftIndex index(8);
  std::vector<Token> many(100);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<Token>(i);
  index.append(many);
  EXPECT_LE(index.size(), 8u);
  EXPECT_EQ(guess(index, std::vector<Token>{97, 98}, 1), std::vector<Token>{99});
}

}  // namespace
}  // namespace hearth
