// Early exit, asked for and as a guess.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/engine.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

class EngineExit : public testing::Test {
 protected:
  // Layers from `first_idle` on add nothing; the family has four.
  Model model(int first_idle) {
    std::vector<std::vector<std::byte>> memory;
    const Checkpoint original = open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value();
    const auto path = folder_.path() / fmt::format("{}.pack", first_idle);
    EXPECT_TRUE(write_pack(with_idle_layers(original, first_idle, memory), path, 1));
    auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
    return load_model(path, std::move(backend), {.context = 128, .rows_max = 0, .progress = {}}).value();
  }
  // After two layers; `change`: how far the guess is from the stream. Doubts are spread around 0.
  static std::shared_ptr<const ExitFile> exits(float change) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    constexpr size_t kWidth = 32;
    auto file = std::make_shared<ExitFile>();
    ExitMap map{.layers = 2,
                .change = std::vector<float>(kWidth * kWidth),
                .bias = std::vector<float>(kWidth),
                .doubt = std::vector<float>(kWidth + 1),
                .same_top = 0.9f};
    for (float& value : map.change) value = change * normal(random);
    for (float& value : map.doubt) value = normal(random);
    map.doubt.back() = -3;  // what all tokens of a random model have in common
    file->maps.push_back(std::move(map));
    file->bounds = {
        {.bound = 0.05, .layers = 2, .threshold = 0, .mean_kld = 0.04, .same_top = 0.9, .exited = 0.5, .saved = 0.2},
        {.bound = 0.01, .layers = 2, .threshold = -3, .mean_kld = 0.01, .same_top = 1, .exited = 0.1, .saved = 0.02}};
    return file;
  }
  static Request request(double exit_kld, uint64_t seed = 0) {
    Request made;
    for (int i = 0; i < 24; ++i) made.prompt.push_back(3 + (i * i) % 50);
    made.sampling.seed = seed;
    made.sampling.temperature = seed == 0 ? 0.0f : 0.9f;
    made.max_tokens = 40;
    made.ignore_eos = true;
    made.exit_kld = exit_kld;
    return made;
  }
  static std::vector<Token> answer(Engine& engine, Request request, Usage* usage = nullptr) {
    const auto stream = engine.submit(std::move(request)).value();
    std::vector<Token> tokens;
    for (bool done = false; !done;) {
      const Piece piece = stream->next();
      tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
      done = piece.done;
      if (usage) *usage = piece.usage;
    }
    return tokens;
  }
  TestFolder folder_;
};

TEST_F(EngineExit, LeavingOutIdleLayersChangesNothingAndIsReported) {
  const auto engine = Engine::create(model(2), {.exits = exits(0)}).value();
  Usage whole, early;
  const auto wanted = answer(*engine, request(0, 3), &whole);  // drawn: tokens of many kinds
  EXPECT_EQ(answer(*engine, request(0.05, 3), &early), wanted);
  EXPECT_EQ(whole.exited_tokens, 0);
  EXPECT_EQ(whole.exit_kld_max, 0);
  EXPECT_GT(early.exited_tokens, 0) << early.completion_tokens;
  EXPECT_LT(early.exited_tokens, early.completion_tokens);
  EXPECT_EQ(early.exit_layers, 2);
  EXPECT_EQ(early.exit_kld_max, 0.05);
  EXPECT_EQ(early.cached_tokens, 0) << "state of tokens that left is another than that of those that did not";
}

TEST_F(EngineExit, AnAnswerDependsOnNothingElse) {
  const auto alone = Engine::create(model(4), {.drafts_max = 0, .exits = exits(0.3f)}).value();
  std::vector<Request> all;
  for (uint64_t seed = 0; seed < 4; ++seed)
    for (const double kld : {0.05, 0.0}) all.push_back(request(kld, seed));
  std::vector<std::vector<Token>> wanted;
  for (const Request& each : all) wanted.push_back(answer(*alone, each));
  EXPECT_NE(wanted[0], wanted[1]) << "these layers do something";
  for (const int drafts_max : {0, 5})
    for (const int prefill_max : {7, 512}) {
      const auto engine =
          Engine::create(model(4),
                         {.parallel = 3, .prefill_max = prefill_max, .drafts_max = drafts_max, .exits = exits(0.3f)})
              .value();
      std::vector<std::unique_ptr<Stream>> streams;
      for (const Request& each : all) streams.push_back(engine->submit(each).value());
      for (size_t i = 0; i < streams.size(); ++i) {
        std::vector<Token> tokens;
        for (bool done = false; !done;) {
          const Piece piece = streams[i]->next();
          tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
          done = piece.done;
        }
        EXPECT_EQ(tokens, wanted[i]) << "request " << i << ", drafts " << drafts_max << ", chunks " << prefill_max;
      }
      // The next turn goes on from state of tokens that left, and says what it says without that state.
      Request next = request(0.05);
      next.prompt.insert(next.prompt.end(), wanted[0].begin(), wanted[0].end());
      Usage usage;
      const auto again = Engine::create(model(4), {.exits = exits(0.3f)}).value();
      EXPECT_EQ(answer(*engine, next, &usage), answer(*again, next));
      EXPECT_GT(usage.cached_tokens, 40);
    }
}

TEST_F(EngineExit, CandidatesAreScoredByTheWholeModelBesideThoseThatLeave) {
  Request scored = request(-1);
  scored.candidates = {{1, 2, 3, 4}, {5, 6, 7}};
  const auto scores = [&](Engine& engine) {
    const auto stream = engine.submit(scored).value();
    for (;;)
      if (const Piece piece = stream->next(); piece.done) return piece.scores;
  };
  const auto expected = scores(*Engine::create(model(4), {}).value());
  const auto engine = Engine::create(model(4), {.parallel = 4, .exits = exits(0.3f)}).value();
  std::vector<std::unique_ptr<Stream>> leaving;
  for (uint64_t seed = 1; seed < 4; ++seed) leaving.push_back(engine->submit(request(0.05, seed)).value());
  (void)leaving.front()->next();
  EXPECT_EQ(scores(*engine), expected);
}

TEST_F(EngineExit, WhatIsNotWorthItIsRefused) {
  const auto engine = Engine::create(model(2), {.exits = exits(0)}).value();
  const Error tight = engine->submit(request(0.02)).error();
  EXPECT_EQ(tight.code, Code::kUnsupported);
  EXPECT_NE(tight.message.find("not useful for this model"), std::string::npos) << tight.message;
  EXPECT_EQ(engine->submit(request(11)).error().code, Code::kInvalidArgument);
  Request scored = request(0.05);
  scored.candidates = {{1, 2}};
  EXPECT_EQ(engine->submit(scored).error().code, Code::kInvalidArgument);
  EXPECT_EQ(Engine::create(model(2), {.exits = exits(0), .exit_kld = 0.02}).error().code, Code::kUnsupported);
  EXPECT_EQ(Engine::create(model(2), {.kv_type = KvType::kI4, .exits = exits(0)}).error().code, Code::kUnsupported);
  EXPECT_EQ(Engine::create(model(2), {.may_switch_precision = true, .exits = exits(0)}).error().code,
            Code::kInvalidArgument);
  const auto without = Engine::create(model(2), {}).value();
  EXPECT_NE(without->submit(request(0.05)).error().message.find("no exit heads"), std::string::npos);
}

TEST_F(EngineExit, TheModelGuessesForItselfAndChangesNoToken) {
  const auto plain = Engine::create(model(4), {.drafts_max = 0}).value();
  const auto source = static_cast<size_t>(DraftSource::kExit);
  for (const int drafts_max : {-1, 1, 4}) {
    const auto engine =
        Engine::create(model(4), {.drafts_max = drafts_max, .exits = exits(0.1f), .exit_draft = true}).value();
    for (uint64_t seed = 0; seed < 5; ++seed)
      EXPECT_EQ(answer(*engine, request(0, seed)), answer(*plain, request(0, seed))) << "seed " << seed;
    if (drafts_max > 0) {
      EXPECT_GT(engine->stats().drafted_tokens[source], 20u);
    }
  }
  // Of a model whose later layers add nothing every guess is true, drawn ones as well.
  const auto idle = Engine::create(model(2), {.drafts_max = 3, .exits = exits(0), .exit_draft = true}).value();
  answer(*idle, request(0, 3));
  const EngineStats stats = idle->stats();
  EXPECT_GT(stats.drafted_tokens[source], 3u);
  EXPECT_EQ(stats.accepted_tokens[source], stats.drafted_tokens[source]);
}

}  // namespace
}  // namespace hearth
