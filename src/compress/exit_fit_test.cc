#include "compress/exit_fit.h"

#include <gtest/gtest.h>

#include <random>

#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth::compress {
namespace {

TEST(SolvePositive, GivesWhatWasMultiplied) {
  constexpr int64_t kSize = 37, kColumns = 5;
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<double> root(kSize * kSize), a(kSize * kSize), x(kSize * kColumns), right(kSize * kColumns);
  for (double& value : root) value = normal(random);
  for (double& value : x) value = normal(random);
  for (int64_t i = 0; i < kSize; ++i)
    for (int64_t j = 0; j < kSize; ++j)
      for (int64_t k = 0; k < kSize; ++k)
        a[static_cast<size_t>(i * kSize + j)] +=
            root[static_cast<size_t>(i * kSize + k)] * root[static_cast<size_t>(j * kSize + k)] + (i == j ? 0.1 : 0.0);
  for (int64_t i = 0; i < kSize; ++i)
    for (int64_t j = 0; j < kSize; ++j)
      for (int64_t c = 0; c < kColumns; ++c)
        right[static_cast<size_t>(i * kColumns + c)] +=
            a[static_cast<size_t>(i * kSize + j)] * x[static_cast<size_t>(j * kColumns + c)];
  ASSERT_TRUE(solve_positive(a, kSize, right, kColumns));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(right[i], x[i], 1e-9);
  std::vector<double> indefinite{1, 2, 2, 1}, one{1, 1};
  EXPECT_FALSE(solve_positive(indefinite, 2, one, 1));
}

class ExitFitTest : public testing::Test {
 protected:
  // A model whose layers from `first_idle` on add nothing.
  Model idle_model(int first_idle) {
    std::vector<std::vector<std::byte>> memory;
    const Checkpoint original = open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value();
    const auto path = folder_.path() / fmt::format("{}.pack", first_idle);
    EXPECT_TRUE(write_pack(with_idle_layers(original, first_idle, memory), path, 1));
    auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
    return load_model(path, std::move(backend), {.context = 32, .rows_max = 0, .progress = {}}).value();
  }
  static ExitTexts texts(size_t fit = 24) {
    std::mt19937 random(1);
    const auto pieces = [&](size_t n) {
      Chunks chunks(n);
      for (auto& chunk : chunks)
        for (int i = 0; i < 32; ++i) chunk.push_back(static_cast<Token>(random() % 60));
      return chunks;
    };
    return {.fit = pieces(fit), .tune = pieces(6), .judge = pieces(6)};
  }
  TestFolder folder_;
};

TEST_F(ExitFitTest, LayersThatAddNothingAreLeftOut) {
  const Model model = idle_model(2);
  const ExitFit fit = fit_exits(model, texts(), {.layers = {1, 2, 3}, .n_threads = 2}).value();
  ASSERT_EQ(fit.report.trades.size(), 3u);
  EXPECT_GT(fit.report.trades[0].mean_kld, 1e-3) << "layer 1 is not idle";
  EXPECT_LT(fit.report.trades[1].mean_kld, 1e-6);
  EXPECT_GT(fit.report.trades[1].same_top, 0.99);
  EXPECT_GT(fit.report.trades[1].saved, fit.report.trades[2].saved);
  const ExitBound chosen = fit.file.choose(0.05).value();
  EXPECT_LE(chosen.mean_kld, 0.05);
  EXPECT_GT(chosen.saved, kExitGainMin);
  EXPECT_GT(chosen.exited, 0.5);
}

// Random layers that all matter: nothing can be promised, and nothing is.
TEST_F(ExitFitTest, ALinearMapBeatsNoMapOnRealLayers) {
  const Model model = idle_model(4);
  const ExitTexts all = texts(64);
  // A ridge without end leaves the stream as it is.
  const ExitFit none = fit_exits(model, all, {.layers = {2}, .ridge = 1e9, .n_threads = 2}).value();
  const ExitFit fit = fit_exits(model, all, {.layers = {2}, .n_threads = 2}).value();
  EXPECT_LT(fit.report.trades[0].mean_kld, 0.8 * none.report.trades[0].mean_kld);
  for (const ExitBound& bound : fit.file.bounds)
    if (bound.mean_kld > bound.bound) {
      EXPECT_NE(message(fit.file.choose(bound.bound)), "");
    }
}

TEST_F(ExitFitTest, WhatCannotBeFittedIsRefused) {
  const Model model = idle_model(2);
  EXPECT_EQ(fit_exits(model, texts(), {.layers = {4}}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(fit_exits(model, texts(), {.layers = {0}}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(fit_exits(model, texts(1), {}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(fit_exits(model, texts(), {.layers = {}, .kv_type = KvType::kI4}).error().code, Code::kUnsupported);
  auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const Model recurrent =
      load_model(kGoldenFolder / "lfm2", std::move(backend), {.context = 32, .rows_max = 0, .progress = {}}).value();
  EXPECT_NE(message(fit_exits(recurrent, texts(), {})).find("recurrent"), std::string::npos);
}

}  // namespace
}  // namespace hearth::compress
