// Agreement with llama.cpp on the real model: tests/data/greedy holds its greedy continuations of the model in f32, made by
// tests/reference/make_greedy.py. In f32 nothing but rounding may differ; on quantised files each engine rounds activations its own
// way, and even one engine with two KV types gives different continuations.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "base/mapped_file.h"
#include "model/decoder.h"
#include "model/sequence.h"
#include "support/real_model.h"
#include "text/tokenizer.h"

namespace hearth {
namespace {

// A checkpoint with every weight as the f32 it stands for. `original` lends its settings, `memory` holds the weights.
Checkpoint in_f32(const Checkpoint& original, std::vector<std::vector<float>>& memory) {
  Checkpoint::Parts parts;
  parts.metadata = original.metadata();
  for (TensorRef tensor : original.tensors()) {
    memory.emplace_back(tensor.elements());
    info(tensor.type).decode(tensor.data.data(), memory.back().data(), static_cast<int64_t>(tensor.elements()));
    tensor.type = Type::kF32;
    tensor.data = std::as_bytes(std::span(memory.back()));
    parts.tensors.push_back(std::move(tensor));
  }
  return Checkpoint::create(original.path(), std::move(parts)).value();
}

TEST(Greedy, FollowsLlamaCppUntilTwoTokensAreAsLikely) {
  const auto text = read_file(HEARTH_TEST_DATA "/greedy/smollm2-135m.json", 1 << 20);
  ASSERT_TRUE(text);
  const auto golden = parse_json(*text).value();
  const auto path = test::real_model();
  ASSERT_TRUE(path) << "the tiny model is not there; ./dev test fetches it";
  const Checkpoint original = open_checkpoint(*path).value();
  auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
  std::unique_ptr<Decoder> decoder;
  {
    std::vector<std::vector<float>> memory;
    decoder =
        Decoder::load(in_f32(original, memory), *backend, {.context = 512, .rows_max = 0, .progress = {}}).value();
  }
  auto store = SequenceStore::create(*backend, decoder->config(),
                                     {.kv_type = KvType::kF16, .positions_max = 512, .sequences_max = 1})
                   .value();
  std::vector<float> logits(static_cast<size_t>(decoder->config().n_vocab));
  int equal = 0;
  for (const auto& golden_case : golden.at("cases").as_array()) {
    std::vector<Token> tokens;
    for (const auto& token : golden_case.at("prompt").as_array()) tokens.push_back(token.to_number<Token>());
    const auto& expected = golden_case.at("tokens").as_array();
    const auto& gaps = golden_case.at("gaps").as_array();
    const SequenceId id = store->open().value();
    size_t step = 0;
    for (; step < expected.size(); ++step) {
      const int done = store->length(id), count = static_cast<int>(tokens.size()) - done;
      ASSERT_TRUE(store->reserve(id, count));
      const SequenceRows rows = store->rows(id, 0, count);
      decoder->run({.tokens = std::span(tokens).subspan(static_cast<size_t>(done)), .sequences = {&rows, 1}}, *store);
      store->advance(id, count);
      const int32_t last = count - 1;
      decoder->logits({&last, 1}, logits);
      const auto best = static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
      const Token theirs = expected[step].to_number<Token>();
      if (best != theirs) {
        const float ours = logits[static_cast<size_t>(best)] - logits[static_cast<size_t>(theirs)];
        const double gap = gaps[step].to_number<double>();
        std::printf("prompt of %zu tokens, step %zu: our gap %.3f, theirs %.3f\n",
                    golden_case.at("prompt").as_array().size(), step, ours, gap);
        EXPECT_LT(gap, 0.05) << "step " << step;
        break;
      }
      tokens.push_back(best);
    }
    equal += step == expected.size() ? 1 : 0;
    store->release(id);
  }
  std::printf("%d of %zu continuations equal over all 64 tokens\n", equal, golden.at("cases").as_array().size());
  EXPECT_GE(equal, 16);
}

}  // namespace
}  // namespace hearth
