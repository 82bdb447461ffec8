// An engine that has to do with less memory while it runs, and gets it back.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/engine.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

constexpr int kContext = 256;

struct Answer {
  std::vector<Token> tokens;
  Finish finish{};
};

class EngineMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    const Checkpoint original = open_checkpoint(HEARTH_TEST_DATA "/families/smollm3").value();
    ASSERT_TRUE(write_pack(original, pack_, 1));
  }
  std::unique_ptr<Engine> engine(EngineOptions options = {}) const {
    auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
    return Engine::create(
               load_model(pack_, std::move(backend), {.context = kContext, .rows_max = 0, .progress = {}}).value(),
               options)
        .value();
  }
  static Request request(const Engine& engine, std::string_view text, int max_tokens, uint64_t seed = 1) {
    Request made;
    made.prompt = encode_prompt(*engine.model().text.tokenizer, text);
    made.sampling = {.temperature = 1, .seed = seed};
    made.max_tokens = max_tokens;
    made.ignore_eos = true;
    return made;
  }
  // What all of it takes, and the least: weights streamed, and one short conversation.
  static uint64_t all_bytes(const Engine& engine) {
    const EngineStats stats = engine.stats();
    const Model& model = engine.model();
    return WeightStream::plan(*model.checkpoint, *model.backend, UINT64_MAX)->resident_bytes +
           static_cast<uint64_t>(model.decoder->scratch_bytes() + stats.kv_positions_max * stats.kv_position_bytes) +
           (1 << 20);
  }
  static uint64_t least_bytes(const Engine& engine) {
    const Model& model = engine.model();
    uint64_t least = 0;
    for (uint64_t bytes = 4096; least == 0; bytes += 4096)
      if (WeightStream::plan(*model.checkpoint, *model.backend, bytes)) least = bytes;
    const auto kv = static_cast<uint64_t>((kContext + 2 * kKvPagePositions) * engine.stats().kv_position_bytes);
    return least + kv + static_cast<uint64_t>(model.decoder->scratch_bytes());
  }
  // Reads an answer; `between` is called after each piece.
  template <typename Between>
  static Answer read(Stream& stream, Between between) {
    Answer answer;
    for (;;) {
      const Piece piece = stream.next();
      answer.tokens.insert(answer.tokens.end(), piece.tokens.begin(), piece.tokens.end());
      if (piece.done) {
        answer.finish = piece.finish;
        return answer;
      }
      between();
    }
  }
  // Asks something short, so that what was set before is in force when this returns.
  static void settle(Engine& engine) {
    const auto stream = engine.submit(request(engine, "A", 1)).value();
    read(*stream, [] {});
  }

  TestFolder folder_;
  const std::filesystem::path pack_ = folder_.path() / "model.pack";
};

TEST_F(EngineMemoryTest, AnAnswerIsTheSameWhileMemoryComesAndGoes) {
  const std::vector<std::string> texts{"THE SEA IS", "Once upon a time there was a ship", "1, 2, 3,"};
  std::vector<std::vector<Token>> expected;
  {
    const auto ample = engine({.parallel = 1});
    for (size_t i = 0; i < texts.size(); ++i)
      expected.push_back(read(*ample->submit(request(*ample, texts[i], 100, i)).value(), [] {}).tokens);
  }
  const auto model = engine({.parallel = 3});
  const uint64_t all = all_bytes(*model), least = least_bytes(*model);
  ASSERT_LT(least, all);
  // The engine does not wait for its readers: what is asked again may be in force only when all have been answered.
  uint64_t streamed = 0;
  int n = 0;
  for (int round = 0; streamed == 0 && round < 1000; ++round) {
    std::vector<std::unique_ptr<Stream>> streams;
    for (size_t i = 0; i < texts.size(); ++i)
      streams.push_back(model->submit(request(*model, texts[i], 100, i)).value());
    for (size_t i = 0; i < texts.size(); ++i) {
      const Answer answer = read(*streams[i], [&] {
        if (++n % 5 == 0) model->set_memory(n % 2 == 0 ? all : least + static_cast<uint64_t>(n % 200) * 64);
        streamed = std::max(streamed, model->stats().streamed_bytes);
      });
      EXPECT_EQ(answer.tokens, expected[i]) << texts[i];
      EXPECT_EQ(answer.finish, Finish::kLength);
    }
  }
  EXPECT_GT(streamed, 0u) << "some of it has to have been read from disk";
  EXPECT_EQ(model->stats().memory_problem, "");
}

TEST_F(EngineMemoryTest, AnEngineThatRestsGivesWayAndGrowsToo) {
  const auto model = engine();
  const uint64_t least = least_bytes(*model);
  model->set_memory(least);
  settle(*model);
  EXPECT_GT(model->stats().streamed_bytes, 0u);
  EXPECT_LE(model->stats().weight_bytes, least);
  EXPECT_EQ(model->stats().bytes_max, least);
  model->set_memory(all_bytes(*model));
  settle(*model);
  EXPECT_EQ(model->stats().streamed_bytes, 0u);
}

TEST_F(EngineMemoryTest, WhatCannotBeGivenIsToldAndNothingIsLost) {
  const auto model = engine();
  const auto expected = read(*model->submit(request(*model, "THE SEA", 20)).value(), [] {}).tokens;
  model->set_memory(1000);
  EXPECT_EQ(read(*model->submit(request(*model, "THE SEA", 20)).value(), [] {}).tokens, expected);
  EXPECT_NE(model->stats().memory_problem.find("too few"), std::string::npos) << model->stats().memory_problem;
}

TEST_F(EngineMemoryTest, APromptThatNoLongerFitsIsRefusedWithTheNumbers) {
  const auto model = engine();
  const Request large = request(*model, std::string(220, 'A'), 10);
  const auto page = static_cast<uint64_t>(kKvPagePositions * model->stats().kv_position_bytes);
  model->set_memory(least_bytes(*model) - 5 * page);
  settle(*model);
  ASSERT_LT(model->stats().kv_positions_max, static_cast<int64_t>(large.prompt.size()));
  const auto refused = model->submit(large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kLimit);
  EXPECT_NE(refused.error().message.find("memory was lowered"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(model->submit(request(*model, "A", 4)));
}

}  // namespace
}  // namespace hearth
