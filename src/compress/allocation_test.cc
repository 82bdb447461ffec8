#include "compress/allocation.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::compress {
namespace {

MatrixChoices matrix(std::string name, std::vector<std::pair<uint64_t, double>> choices) {
  MatrixChoices out{.name = std::move(name), .choices = {}};
  for (const auto& [bytes, divergence] : choices)
    out.choices.push_back({.type = nullptr, .bytes = bytes, .divergence = divergence});
  return out;
}

TEST(Allocation, BitsGoWhereTheyGainMostPerByte) {
  const std::vector<MatrixChoices> matrices{matrix("sensitive", {{40, 1.0}, {50, 0.2}, {80, 0.0}}),
                                            matrix("robust", {{40, 0.1}, {50, 0.02}, {80, 0.0}})};
  EXPECT_EQ(allocate_bytes(matrices, 80), (Allocation{0, 0}));
  EXPECT_EQ(allocate_bytes(matrices, 90), (Allocation{1, 0}));
  EXPECT_EQ(allocate_bytes(matrices, 100), (Allocation{1, 1}));
  EXPECT_EQ(allocate_bytes(matrices, 130), (Allocation{2, 1}));
  EXPECT_EQ(allocate_bytes(matrices, 1000), (Allocation{2, 2}));
  EXPECT_EQ(allocate_bytes(matrices, 79), std::nullopt);
}

TEST(Allocation, AChoiceThatIsWorseAndLargerIsNeverTaken) {
  const std::vector<MatrixChoices> matrices{matrix("a", {{60, 0.5}, {40, 0.3}, {80, 0.4}, {90, 0.1}})};
  EXPECT_EQ(allocate_bytes(matrices, 85), (Allocation{1}));
  EXPECT_EQ(allocate_bytes(matrices, 90), (Allocation{3}));
}

TEST(Allocation, ATargetOfDivergenceIsReachedWithFewBytes) {
  const std::vector<MatrixChoices> matrices{matrix("a", {{40, 1.0}, {50, 0.2}, {80, 0.0}}),
                                            matrix("b", {{40, 0.1}, {50, 0.02}, {80, 0.0}})};
  EXPECT_EQ(allocate_divergence(matrices, 2.0), (Allocation{0, 0}));
  EXPECT_EQ(allocate_divergence(matrices, 0.31), (Allocation{1, 0}));
  EXPECT_EQ(allocate_divergence(matrices, 0.0), (Allocation{2, 2}));
  EXPECT_EQ(allocate_divergence(matrices, -0.1), std::nullopt);
}

// Against all combinations: of random tables the result is never over the bound, and not far from the best.
TEST(Allocation, ItIsNearTheBestOfAllCombinations) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> unit(0, 1);
  double excess = 0, best_sum = 0;
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<MatrixChoices> matrices;
    for (int m = 0; m < 6; ++m) {
      const double size = 10 + 90 * unit(random), harm = unit(random) * unit(random);
      matrices.push_back(matrix("m", {{static_cast<uint64_t>(4 * size), harm},
                                      {static_cast<uint64_t>(5 * size), harm * 0.26},
                                      {static_cast<uint64_t>(6 * size), harm * 0.07},
                                      {static_cast<uint64_t>(8 * size), harm * 0.005}}));
    }
    const AllocationSum least = sum_of(matrices, Allocation(6, 0)), most = sum_of(matrices, Allocation(6, 3));
    const uint64_t bound =
        least.bytes + static_cast<uint64_t>(unit(random) * static_cast<double>(most.bytes - least.bytes));
    const auto chosen = allocate_bytes(matrices, bound);
    ASSERT_TRUE(chosen);
    const AllocationSum sum = sum_of(matrices, *chosen);
    EXPECT_LE(sum.bytes, bound);
    double best = sum.divergence, fewest = 1e18;
    for (int code = 0; code < 4096; ++code) {
      Allocation each;
      for (int m = 0; m < 6; ++m) each.push_back(static_cast<size_t>(code >> (2 * m) & 3));
      const AllocationSum other = sum_of(matrices, each);
      if (other.bytes <= bound) best = std::min(best, other.divergence);
      if (other.divergence <= sum.divergence) fewest = std::min(fewest, static_cast<double>(other.bytes));
    }
    excess += sum.divergence - best, best_sum += best;
    const auto reached = allocate_divergence(matrices, sum.divergence);
    ASSERT_TRUE(reached);
    EXPECT_LE(sum_of(matrices, *reached).divergence, sum.divergence);
    EXPECT_LE(static_cast<double>(sum_of(matrices, *reached).bytes), 1.2 * fewest);
  }
  EXPECT_LT(excess, 0.15 * best_sum);
}

}  // namespace
}  // namespace hearth::compress
