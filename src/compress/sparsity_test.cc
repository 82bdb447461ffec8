#include "compress/sparsity.h"

#include <gtest/gtest.h>

#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth::compress {
namespace {

Chunks pieces() {
  Chunks chunks(2);
  for (size_t c = 0; c < chunks.size(); ++c)
    for (size_t i = 0; i < 32; ++i) chunks[c].push_back(static_cast<Token>((i * i + 7 * c) % 60));
  return chunks;
}

TEST(Sparsity, NothingLeftOutChangesNothingAndMoreLeftOutChangesMore) {
  const auto inner = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
  const auto recorder = std::make_shared<RecordingBackend>(*inner);
  const TestFolder folder;
  ASSERT_TRUE(write_pack(open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value(), folder.path() / "a.pack", 1));
  const Model model =
      load_model(folder.path() / "a.pack", recorder, {.context = 32, .rows_max = 0, .progress = {}}).value();
  const std::array shares{0.0, 0.5, 0.99};
  const auto trades = measure_sparsity(model, *recorder, pieces(), shares, 2, [](double) {}).value();
  EXPECT_EQ(trades[0].mean_kld, 0);
  EXPECT_EQ(trades[0].same_top, 1);
  EXPECT_GT(trades[1].mean_kld, 0);
  EXPECT_GT(trades[2].mean_kld, trades[1].mean_kld);
  EXPECT_EQ(trades[2].blocks, 0) << "one of the 32 stays";
  EXPECT_GT(trades[2].saved_columns, 0.05);
}

TEST(Sparsity, MixturesAreRefused) {
  const auto inner = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto recorder = std::make_shared<RecordingBackend>(*inner);
  const Model model =
      load_model(kGoldenFolder / "mixtral/model.gguf", recorder, {.context = 32, .rows_max = 0, .progress = {}})
          .value();
  const std::array shares{0.5};
  EXPECT_EQ(measure_sparsity(model, *recorder, pieces(), shares, 1, [](double) {}).error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace hearth::compress
