// Weights that are read as they are needed: the same bits as in memory, within the bytes that were given.
#include "model/weight_stream.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/golden_models.h"
#include "model/model.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

// Layers of very different sizes.
std::vector<std::vector<uint64_t>> some_layers() {
  std::vector<std::vector<uint64_t>> layers;
  for (uint64_t i = 0; i < 12; ++i) layers.push_back({400, 100, 100, 400, 2000 + 10 * i, 2000, 2000});
  return layers;
}

TEST(StreamPlan, AllStaysWhereItFits) {
  const auto plan = plan_stream(some_layers(), 1000, 200000);
  ASSERT_EQ(message(plan), "");
  EXPECT_EQ(plan->slot_bytes, 0U);
  EXPECT_EQ(plan->read_bytes, 0U);
}

TEST(StreamPlan, ReadsLittleMoreThanWhatDoesNotFit) {
  const auto layers = some_layers();
  const uint64_t total = plan_stream(layers, 1000, 1 << 30)->resident_bytes;
  for (uint64_t bytes = total / 4; bytes < total; bytes += 501) {
    const auto plan = plan_stream(layers, 1000, bytes);
    ASSERT_EQ(message(plan), "");
    EXPECT_LE(plan->resident_bytes, bytes);
    uint64_t read = 0;
    for (size_t i = 0; i < layers.size(); ++i)
      for (size_t m = 0; m < layers[i].size(); ++m) read += plan->streamed[i][m] ? layers[i][m] : 0;
    EXPECT_EQ(read, plan->read_bytes);
    // At most two slots and what matrices cannot be cut by.
    EXPECT_LE(read, (total - bytes) + 2 * plan->slot_bytes + 2 * 2110) << bytes;
  }
}

TEST(StreamPlan, TooFewBytesAreAnErrorThatSaysHowManyWouldDo) {
  const auto plan = plan_stream(some_layers(), 1000, 10000);
  ASSERT_FALSE(plan);
  const uint64_t least = 1000 + 2 * 7110;
  EXPECT_NE(plan.error().message.find(std::to_string(least)), std::string::npos) << plan.error().message;
  EXPECT_TRUE(plan_stream(some_layers(), 1000, least));
}

std::vector<float> logits(Decoder& decoder, Backend& backend) {
  const auto store =
      SequenceStore::create(backend, decoder.config(), {.positions_max = 32, .sequences_max = 1}).value();
  const SequenceId id = store->open().value();
  std::vector<float> all;
  EXPECT_TRUE(store->reserve(id, 12));
  for (int i = 0; i < 12; ++i) {
    const int32_t token = (i * 37 + 11) % decoder.config().n_vocab, wanted = 0;
    const SequenceRows rows = store->rows(id, 0, 1);
    decoder.run({.tokens = {&token, 1}, .sequences = {&rows, 1}}, *store);
    store->advance(id, 1);
    std::vector<float> row(static_cast<size_t>(decoder.config().n_vocab));
    decoder.logits({&wanted, 1}, row);
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

std::vector<float> logits(const Checkpoint& checkpoint, WeightStream* weights) {
  const auto backend = create_backend("cpu", {.n_threads = 2, .isa = ""}).value();
  const auto decoder =
      Decoder::load(checkpoint, *backend, {.context = 32, .rows_max = 0, .progress = {}, .weights = weights}).value();
  return logits(*decoder, *backend);
}

// Every family with more than two layers, at budgets from all to the least, must answer as if all were in memory.
TEST(WeightStream, GivesTheLogitsOfAllInMemory) {
  const TestFolder folder;
  const auto path = folder.path() / "model.pack";
  int streamed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldenFolder)) {
    const auto original = open_checkpoint(entry.path());
    if (!original || !write_pack(*original, path, 1)) continue;
    const Checkpoint pack = open_checkpoint(path).value();
    const std::vector<float> expected = logits(pack, nullptr);
    const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
    const uint64_t all = WeightStream::plan(pack, *backend, 1 << 30)->resident_bytes;
    for (uint64_t bytes = all;; bytes -= all / 8) {
      const auto stream = WeightStream::create(pack, *backend, bytes);
      if (!stream) break;
      EXPECT_LE((*stream)->plan().resident_bytes, bytes);
      streamed += (*stream)->plan().read_bytes > 0;
      EXPECT_EQ(logits(pack, stream->get()), expected) << entry.path() << " in " << bytes << " of " << all;
    }
  }
  EXPECT_GT(streamed, 5);
}

// A model that is loaded goes from mapped to streamed and back, and stays what it is where that cannot be.
TEST(WeightStream, AModelCanBeBoundWhileItIsLoaded) {
  const TestFolder folder;
  const auto path = folder.path() / "model.pack";
  const auto load = [&](const std::filesystem::path& from) {
    return load_model(from, create_backend("cpu", {.n_threads = 2, .isa = ""}).value(),
                      {.context = 32, .rows_max = 0, .progress = {}})
        .value();
  };
  const auto source = kGoldenFolder / "smollm3";
  ASSERT_TRUE(write_pack(open_checkpoint(source).value(), path, 1));
  const std::vector<float> expected = logits(open_checkpoint(path).value(), nullptr);
  Model model = load(path);
  const uint64_t all = WeightStream::plan(*model.checkpoint, *model.backend, UINT64_MAX)->resident_bytes;
  uint64_t least = all;
  while (WeightStream::plan(*model.checkpoint, *model.backend, least - 4096)) least -= 4096;
  ASSERT_LT(least, all);
  for (const uint64_t bytes : {least, all - 1, all, least, all}) {
    ASSERT_EQ(message(bound_weights(model, bytes)), "");
    EXPECT_EQ(model.weights != nullptr, bytes < all);
    EXPECT_EQ(logits(*model.decoder, *model.backend), expected) << bytes << " of " << all;
  }
  ASSERT_TRUE(bound_weights(model, least));
  EXPECT_EQ(bound_weights(model, 100).error().code, Code::kLimit);
  EXPECT_EQ(logits(*model.decoder, *model.backend), expected);
  Model loose = load(source);
  EXPECT_TRUE(bound_weights(loose, all));
  EXPECT_EQ(bound_weights(loose, 100).error().code, Code::kUnsupported) << "there is no pack to read from";
}

}  // namespace
}  // namespace hearth
