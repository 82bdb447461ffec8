// Engines that are told how fast to go: the same answers, and nobody waits who has given up.
#include "engine/pacer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/engine.h"
#include "model/golden_models.h"

namespace hearth {
namespace {

class TestPacer final : public Pacer {
 public:
  Result<void> admit(const Request& request) override {
    if (request.request_class == RequestClass::kBatch && no_batch) return fail(Code::kBusy, "the battery is low");
    return {};
  }
  Pacing step_done(const Rows& ran) override {
    ++steps;
    rows += ran.prompt + ran.decode;
    drafted += ran.drafted, generated += ran.generated();
    most_rows = std::max(most_rows.load(), ran.prompt);
    return {.pause_seconds = pause,
            .share = 0.5,
            .classes = classes,
            .threads = threads,
            .prefill_max = prefill_max,
            .drafts_max = drafts_max};
  }
  Energy take_energy() override { return {++energies > 1 ? 1.0 : 1000.0, measured}; }  // the first is nobody's

  std::atomic<double> pause{0};
  std::atomic<int> classes{kRequestClasses}, threads{0}, prefill_max{512}, steps{0}, rows{0}, most_rows{0}, energies{0};
  std::atomic<int> drafts_max{-1}, drafted{0}, generated{0};
  std::atomic<bool> no_batch{false}, measured{true};
};

std::unique_ptr<Engine> make_engine(std::shared_ptr<Pacer> pacer, int drafts_max = -1) {
  auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
  return Engine::create(load_model(kGoldenFolder / "llama/model.gguf", std::move(backend),
                                   {.context = 192, .rows_max = 0, .progress = {}})
                            .value(),
                        {.parallel = 2, .drafts_max = drafts_max, .pacer = std::move(pacer)})
      .value();
}

Request request(std::string_view text, int max_tokens, RequestClass request_class = RequestClass::kInteractive) {
  Request made;
  for (const char c : text) made.prompt.push_back(1 + c % 60);
  made.max_tokens = max_tokens;
  made.ignore_eos = true;
  made.request_class = request_class;
  return made;
}

struct Answer {
  std::vector<Token> tokens;
  Piece last;
};
Answer read(Stream& stream) {
  Answer answer;
  do {
    answer.last = stream.next();
    answer.tokens.insert(answer.tokens.end(), answer.last.tokens.begin(), answer.last.tokens.end());
  } while (!answer.last.done);
  return answer;
}

const std::string kPrompt = "A PROMPT THAT IS LONG ENOUGH TO BE READ IN SEVERAL CHUNKS, AND SOME MORE WORDS OF IT";

TEST(Pacer, PausesChunksAndThreadsChangeNoToken) {
  const auto free = make_engine(nullptr);
  const Answer expected = read(*free->submit(request(kPrompt, 20)).value());
  EXPECT_LT(expected.last.usage.joules, 0) << "nobody knows";
  const auto pacer = std::make_shared<TestPacer>();
  pacer->prefill_max = 8, pacer->pause = 0.002;
  const auto engine = make_engine(pacer);
  read(*engine->submit(request("X", 2)).value());  // from the first step on the pacer is heard
  pacer->most_rows = 0;
  for (const int threads : {1, 2, 0}) {
    pacer->threads = threads;
    EXPECT_EQ(read(*engine->submit(request(kPrompt, 20)).value()).tokens, expected.tokens) << threads << " threads";
  }
  EXPECT_EQ(pacer->most_rows, 8);
}

// An engine told to guess five tokens at a time, whose pacer forbids it.
TEST(Pacer, GuessesItForbidsAreNotRunAndTheAnswerIsTheSame) {
  const auto pacer = std::make_shared<TestPacer>();
  const auto engine = make_engine(pacer, 5);
  const Answer guessed = read(*engine->submit(request(kPrompt, 60)).value());
  EXPECT_GT(guessed.last.usage.drafted_tokens, 0) << "or there is nothing to forbid";
  pacer->drafts_max = 0;
  read(*engine->submit(request("X", 2)).value());  // from the first step on the pacer is heard
  pacer->drafted = pacer->generated = 0;
  const Answer plain = read(*engine->submit(request(kPrompt, 60)).value());
  EXPECT_EQ(plain.tokens, guessed.tokens);
  EXPECT_EQ(plain.last.usage.drafted_tokens, 0);
  pacer->drafts_max = 2;
  read(*engine->submit(request("X", 2)).value());
  EXPECT_EQ(read(*engine->submit(request(kPrompt, 60)).value()).tokens, guessed.tokens);
  EXPECT_GT(pacer->drafted, 0);
  EXPECT_GE(pacer->generated, 2 * 58) << "guesses that came true are tokens, the others are not";
  EXPECT_LE(pacer->generated, 2 * 60 + 2);
}

TEST(Pacer, EnergyGoesToWhoeverRanByRows) {
  const auto pacer = std::make_shared<TestPacer>();
  const auto engine = make_engine(pacer);
  const Usage usage = read(*engine->submit(request("ABC", 5)).value()).last.usage;
  EXPECT_DOUBLE_EQ(usage.joules, 5) << "a joule a step, alone; what was used before is nobody's";
  EXPECT_TRUE(usage.joules_measured);
  const int before = pacer->energies;
  const auto first = engine->submit(request("ABC", 40)).value(), second = engine->submit(request("DEF", 40)).value();
  const double together = read(*first).last.usage.joules + read(*second).last.usage.joules;
  EXPECT_LE(together, pacer->energies - before) << "nothing is counted twice";
  EXPECT_GE(together, 40);
  pacer->measured = false;
  EXPECT_FALSE(read(*engine->submit(request("ABC", 5)).value()).last.usage.joules_measured);
}

TEST(Pacer, ClassesThatStandStillGoOnUnchanged) {
  const Answer expected = read(*make_engine(nullptr)->submit(request(kPrompt, 30)).value());
  const auto pacer = std::make_shared<TestPacer>();
  const auto engine = make_engine(pacer);
  pacer->classes = 2;
  read(*engine->submit(request("X", 2)).value());
  const auto batch = engine->submit(request(kPrompt, 30, RequestClass::kBatch)).value();
  read(*engine->submit(request("INTERACTIVE WORK RUNS", 10)).value());
  EXPECT_FALSE(batch->next_for(std::chrono::milliseconds(50))) << "batch work waits";
  pacer->classes = 0;
  const auto waiting = engine->submit(request(kPrompt, 30)).value();
  const auto given_up = engine->submit(request(kPrompt, 30)).value();
  given_up->cancel();
  EXPECT_EQ(read(*given_up).last.finish, Finish::kCancelled);
  pacer->classes = kRequestClasses;
  EXPECT_EQ(read(*batch).tokens, expected.tokens);
  EXPECT_EQ(read(*waiting).tokens, expected.tokens);
}

// A test that waits for a pause of an hour does not end.
TEST(Pacer, APauseEndsWhenTheRequestIsGivenUpAndWhenTheEngineEnds) {
  const auto pacer = std::make_shared<TestPacer>();
  const auto engine = make_engine(pacer);
  pacer->pause = 3600;
  const auto first = engine->submit(request("ABC", 100)).value();
  while (pacer->steps == 0) std::this_thread::yield();
  first->cancel();
  EXPECT_EQ(read(*first).last.finish, Finish::kCancelled);
}

TEST(Pacer, WhatItRefusesIsRefusedAtTheDoorWithItsReason) {
  const auto pacer = std::make_shared<TestPacer>();
  pacer->no_batch = true;
  const auto engine = make_engine(pacer);
  EXPECT_EQ(engine->submit(request("ABC", 2, RequestClass::kBatch)).error().message, "the battery is low");
  EXPECT_TRUE(engine->submit(request("ABC", 2)));
}

}  // namespace
}  // namespace hearth
