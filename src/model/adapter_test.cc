// LoRA adapters: the same logits as a model with the adapter merged into its weights, and nothing for who has none.
#include "model/adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "model/gguf_writer.h"
#include "model/model.h"
#include "model/sequence.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
constexpr int kRank = 3;
constexpr float kAlpha = 6.0f;
const std::vector<Token> kPrompt{5, 40, 33, 2, 61, 17, 8, 9};

struct Pair {
  std::vector<float> a, b;  // [rank][in], [out][rank]
};

bool is_adapted(std::string_view name) {
  return name.starts_with("blk.") && name.ends_with(".weight") && name.find("norm") == name.npos;
}

// A random adapter of every matrix, and the model with it merged.
class AdapterTest : public testing::TestWithParam<std::string> {
 protected:
  AdapterTest() : original_(open_checkpoint(model()).value()) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.0f, 0.15f);
    for (const TensorRef& tensor : original_.tensors()) {
      if (!is_adapted(tensor.name)) continue;
      Pair& pair = pairs_[tensor.name];
      pair.a.resize(tensor.row_length() * kRank);
      pair.b.resize(tensor.rows() * kRank);
      for (auto* part : {&pair.a, &pair.b}) std::ranges::generate(*part, [&] { return normal(random); });
    }
  }
  static fs::path model() { return HEARTH_TEST_DATA "/families/" + GetParam() + "/model.gguf"; }

  fs::path write_adapter(auto change) const {
    GgufWriter writer;
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("general.architecture", *original_.metadata().find<std::string>("general.architecture"));
    writer.set("adapter.lora.alpha", kAlpha);
    for (const auto& [name, pair] : pairs_) {
      const uint64_t a[] = {pair.a.size() / kRank, kRank}, b[] = {kRank, pair.b.size() / kRank};
      writer.add_tensor(name + ".lora_a", Type::kF32, a, std::as_bytes(std::span(pair.a)));
      writer.add_tensor(name + ".lora_b", Type::kF32, b, std::as_bytes(std::span(pair.b)));
    }
    change(writer);
    EXPECT_TRUE(writer.write(folder_.path() / "adapter.gguf"));
    return folder_.path() / "adapter.gguf";
  }
  fs::path write_adapter() const {
    return write_adapter([](GgufWriter&) {});
  }
  fs::path write_merged() const {
    GgufWriter writer;
    for (const MetadataEntry& entry : original_.metadata().entries()) writer.set(entry.key, entry.value);
    std::map<std::string, std::vector<float>> merged;
    for (const TensorRef& tensor : original_.tensors()) {
      const auto shape = std::span(tensor.shape).first(static_cast<size_t>(tensor.n_dims));
      const auto pair = pairs_.find(tensor.name);
      if (pair == pairs_.end()) {
        writer.add_tensor(tensor.name, tensor.type, shape, tensor.data);
        continue;
      }
      std::vector<float>& values = merged[tensor.name];
      values.resize(tensor.elements());
      info(tensor.type).decode(tensor.data.data(), values.data(), static_cast<int64_t>(values.size()));
      const size_t cols = tensor.row_length();
      for (size_t i = 0; i < values.size(); ++i)
        for (size_t r = 0; r < kRank; ++r)
          values[i] += kAlpha / kRank * pair->second.b[i / cols * kRank + r] * pair->second.a[r * cols + i % cols];
      writer.add_tensor(tensor.name, Type::kF32, shape, std::as_bytes(std::span(values)));
    }
    EXPECT_TRUE(writer.write(folder_.path() / "merged.gguf"));
    return folder_.path() / "merged.gguf";
  }
  static Model load(const fs::path& path, int rank_max = kRank) {
    auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
    return load_model(path, std::move(backend),
                      {.context = 256, .rows_max = 256, .progress = {}, .adapter_rank_max = rank_max})
        .value();
  }
  static Result<std::shared_ptr<const Adapter>> load_adapter(const fs::path& path, const Model& model) {
    const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    return Adapter::load(path, *model.checkpoint, *model.decoder, *backend);
  }
  // The logits after each sequence's last token, all sequences in one step.
  static std::vector<std::vector<float>> run(const Model& model, std::span<const Adapter* const> adapters,
                                             const std::vector<std::vector<Token>>& prompts) {
    const auto store = SequenceStore::create(*model.backend, model.decoder->config(),
                                             {.kv_type = KvType::kF16, .positions_max = 512, .sequences_max = 4})
                           .value();
    std::vector<Token> tokens;
    std::vector<SequenceRows> rows;
    for (const auto& prompt : prompts) {
      const SequenceId id = store->open().value();
      EXPECT_TRUE(store->reserve(id, static_cast<int>(prompt.size())));
      rows.push_back(store->rows(id, static_cast<int>(tokens.size()), static_cast<int>(prompt.size())));
      tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    }
    model.decoder->run({.tokens = tokens, .sequences = rows, .adapters = adapters}, *store);
    std::vector<std::vector<float>> logits;
    for (const SequenceRows& sequence : rows) {
      logits.emplace_back(static_cast<size_t>(model.decoder->config().n_vocab));
      const int32_t last = sequence.first_row + sequence.count - 1;
      model.decoder->logits({&last, 1}, logits.back());
    }
    return logits;
  }

  TestFolder folder_;
  Checkpoint original_;
  std::map<std::string, Pair> pairs_;
};

TEST_P(AdapterTest, EqualsTheModelWithTheAdapterMergedIntoItsWeights) {
  const Model plain = load(model()), merged = load(write_merged());
  const auto adapter = load_adapter(write_adapter(), plain);
  ASSERT_TRUE(adapter) << adapter.error().message;
  const Adapter* const adapters[] = {adapter->get()};
  const auto with = run(plain, adapters, {kPrompt}), expected = run(merged, {}, {kPrompt}),
             without = run(plain, {}, {kPrompt});
  float most = 0, change = 0;
  for (size_t i = 0; i < expected[0].size(); ++i) {
    most = std::max(most, std::abs(with[0][i] - expected[0][i]));
    change = std::max(change, std::abs(with[0][i] - without[0][i]));
  }
  EXPECT_LT(most, 2e-3f) << "keys and values are f16";
  EXPECT_GT(change, 0.3f);
}

TEST_P(AdapterTest, NeighboursKeepTheirBitsAndSoDoRowsWithAnAdapter) {
  const Model plain = load(model());
  const auto adapter = load_adapter(write_adapter(), plain).value();
  std::vector<Token> other(90, 11);  // more rows than adapters take at a time
  const Adapter* const mixed[] = {nullptr, adapter.get(), nullptr, adapter.get()};
  const auto together = run(plain, mixed, {kPrompt, kPrompt, other, other});
  const Adapter* const alone[] = {adapter.get()};
  EXPECT_EQ(together[0], run(plain, {}, {kPrompt})[0]);
  EXPECT_EQ(together[1], run(plain, alone, {kPrompt})[0]);
  EXPECT_EQ(together[2], run(plain, {}, {other})[0]);
  EXPECT_EQ(together[3], run(plain, alone, {other})[0]);
}

INSTANTIATE_TEST_SUITE_P(Families, AdapterTest, testing::Values("llama", "gemma3", "granite", "qwen3"),
                         [](const auto& family) { return family.param; });

using AdapterFiles = AdapterTest;
INSTANTIATE_TEST_SUITE_P(Llama, AdapterFiles, testing::Values("llama"));

TEST_P(AdapterFiles, WhatDoesNotFitTheModelIsRefused) {
  const Model plain = load(model());
  const uint64_t shape[] = {8, kRank};
  const std::vector<float> some(8 * kRank);
  const auto data = std::as_bytes(std::span(some));
  auto add = [&](GgufWriter& writer, std::string_view name) { writer.add_tensor(name, Type::kF32, shape, data); };
  auto refused = [&](auto change) {
    const auto adapter = load_adapter(write_adapter(change), plain);
    EXPECT_FALSE(adapter);
    return adapter ? std::string() : adapter.error().message;
  };
  auto expect_said = [](const std::string& message, std::string_view part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect_said(refused([&](GgufWriter& w) { add(w, "blk.0.other.weight.lora_a"); }), "has no partner");
  expect_said(refused([&](GgufWriter& w) { add(w, "blk.0.other.weight"); }), "has no partner");
  expect_said(refused([&](GgufWriter& w) { add(w, "x"); }), "has no partner");
  for (const std::string base :
       {"token_embd.weight", "blk.99.attn_q.weight", "blk.-1.attn_q.weight", "blk.0.attn_q.bias"})
    expect_said(refused([&](GgufWriter& w) { add(w, base + ".lora_a"), add(w, base + ".lora_b"); }), base + ".lora_a");
  expect_said(load_adapter(model(), plain).error().message, "is no LoRA adapter");
  expect_said(load_adapter(write_adapter(), load(model(), kRank - 1)).error().message, "rank 3");
  const Model other = load(HEARTH_TEST_DATA "/families/qwen3/model.gguf");
  expect_said(load_adapter(write_adapter(), other).error().message, "family 'llama'");
  pairs_.begin()->second.b.resize(kRank);
  expect_said(load_adapter(write_adapter(), plain).error().message, "has the shape");
  pairs_.clear();
  expect_said(load_adapter(write_adapter(), plain).error().message, "without tensors");
}

}  // namespace
}  // namespace hearth
