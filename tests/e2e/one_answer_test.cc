// The first promise: the logits of a sequence are the same bits whatever instruction set, thread count, chunks of the prompt and
// neighbours in the batch.
#include <gtest/gtest.h>

#include <numeric>

#include "backend/cpu/kernels.h"
#include "model/sequence.h"
#include "support/loaded_model.h"

namespace hearth {
namespace {

// A text's tokens do not matter here; these reach all over the vocabulary.
std::vector<Token> prompt(int n, int seed) {
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * 7919 + seed * 104729) % 49000);
  return tokens;
}

class Runner {
 public:
  Runner(const Model& model, KvType kv_type)
      : model_(model),
        store_(SequenceStore::create(*model.backend, model.decoder->config(),
                                     {.kv_type = kv_type, .positions_max = 4096, .sequences_max = 24})
                   .value()) {}

  // Logits after the prompt, run in chunks of `chunk` rows.
  std::vector<float> alone(std::span<const Token> tokens, int chunk) {
    const SequenceId id = store_->open().value();
    std::vector<float> logits(static_cast<size_t>(model_.decoder->config().n_vocab));
    for (size_t done = 0; done < tokens.size();) {
      const auto part = tokens.subspan(done, std::min(tokens.size() - done, static_cast<size_t>(chunk)));
      const int count = static_cast<int>(part.size());
      EXPECT_TRUE(store_->reserve(id, count));
      const SequenceRows rows = store_->rows(id, 0, count);
      model_.decoder->run({.tokens = part, .sequences = {&rows, 1}}, *store_);
      store_->advance(id, count);
      done += part.size();
      const int32_t last = count - 1;
      model_.decoder->logits({&last, 1}, logits);
    }
    store_->release(id);
    return logits;
  }

  // Logits of prompts[index] when all prompts run together, one chunk each per step, of `chunk` rows and `more` for each
  // prompt before it.
  std::vector<float> together(const std::vector<std::vector<Token>>& prompts, size_t index, int chunk, int more = 1) {
    std::vector<SequenceId> ids;
    for (size_t i = 0; i < prompts.size(); ++i) ids.push_back(store_->open().value());
    std::vector<float> logits(static_cast<size_t>(model_.decoder->config().n_vocab));
    while (store_->length(ids[index]) < static_cast<int>(prompts[index].size())) {
      std::vector<Token> tokens;
      std::vector<SequenceRows> rows;
      int32_t wanted = 0;
      for (size_t i = 0; i < prompts.size(); ++i) {
        const int done = store_->length(ids[i]),
                  count = std::min(chunk + more * static_cast<int>(i), static_cast<int>(prompts[i].size()) - done);
        if (count <= 0) continue;
        EXPECT_TRUE(store_->reserve(ids[i], count));
        rows.push_back(store_->rows(ids[i], static_cast<int>(tokens.size()), count));
        tokens.insert(tokens.end(), prompts[i].begin() + done, prompts[i].begin() + done + count);
        if (i == index) wanted = static_cast<int32_t>(tokens.size()) - 1;
        store_->advance(ids[i], count);
      }
      model_.decoder->run({.tokens = tokens, .sequences = rows}, *store_);
      model_.decoder->logits({&wanted, 1}, logits);
    }
    for (const SequenceId id : ids) store_->release(id);
    return logits;
  }

 private:
  const Model& model_;
  std::unique_ptr<SequenceStore> store_;
};

class OneAnswerTest : public testing::TestWithParam<KvType> {};

TEST_P(OneAnswerTest, ChunksThreadsAndNeighboursChangeNoBit) {
  const auto tokens = prompt(530, 1);  // crosses page and segment borders, and the rows of a step
  const Model one_thread = load_tiny_model({}, 1), two_threads = load_tiny_model({}, 2),
              three_threads = load_tiny_model({}, 3);
  const std::vector<float> expected = Runner(one_thread, GetParam()).alone(tokens, 512);
  for (const int chunk : {23, 67, 512})
    EXPECT_EQ(Runner(two_threads, GetParam()).alone(tokens, chunk), expected) << "chunks of " << chunk;
  EXPECT_EQ(Runner(three_threads, GetParam()).alone(tokens, 100), expected);
  std::vector<std::vector<Token>> prompts{prompt(50, 2), prompt(530, 3), tokens,
                                          prompt(7, 4),  prompt(200, 5), prompt(533, 6)};
  EXPECT_EQ(Runner(two_threads, GetParam()).together(prompts, 2, 40), expected) << "in a batch of five others";
}

TEST_P(OneAnswerTest, SmallBatchesChangeNoBit) {
  const auto tokens = prompt(41, 8);
  const Model one_thread = load_tiny_model({}, 1), two_threads = load_tiny_model({}, 2),
              three_threads = load_tiny_model({}, 3);
  const std::vector<float> expected = Runner(one_thread, GetParam()).alone(tokens, 41);
  for (const int chunk : {1, 2, 3, 4, 5, 6, 7, 8, 9})
    EXPECT_EQ(Runner(two_threads, GetParam()).alone(tokens, chunk), expected) << "chunks of " << chunk;
  for (const int chunk : {1, 7}) EXPECT_EQ(Runner(three_threads, GetParam()).alone(tokens, chunk), expected);
  const auto few = prompt(10, 9);
  const std::vector<float> expected_of_few = Runner(one_thread, GetParam()).alone(few, 10);
  // A sequence one row at a time beside others: a step has as many rows as there are sequences.
  for (const size_t sequences : {2, 3, 4, 5, 6, 7, 8, 9, 23}) {
    std::vector<std::vector<Token>> prompts;
    for (size_t i = 0; i < sequences; ++i)
      prompts.push_back(i == sequences / 2 ? few : prompt(10, 10 + static_cast<int>(i)));
    EXPECT_EQ(Runner(two_threads, GetParam()).together(prompts, sequences / 2, 1, 0), expected_of_few)
        << sequences << " sequences";
  }
}

TEST_P(OneAnswerTest, InstructionSetsAgree) {
  const auto tokens = prompt(40, 7);
  const std::vector<float> expected = Runner(load_tiny_model("scalar"), GetParam()).alone(tokens, 40);
  for (const cpu::Kernels* kernels : cpu::all_kernels()) {
    if (!kernels->supported()) continue;
    const Model model = load_tiny_model(kernels->isa);
    EXPECT_EQ(Runner(model, GetParam()).alone(tokens, 40), expected) << kernels->isa;
    EXPECT_EQ(Runner(model, GetParam()).alone(tokens, 9), expected) << kernels->isa << ", chunks of 9";
  }
}

INSTANTIATE_TEST_SUITE_P(KvTypes, OneAnswerTest, testing::ValuesIn(kAllKvTypes),
                         [](const auto& each) { return std::string(name(each.param)); });

}  // namespace
}  // namespace hearth
