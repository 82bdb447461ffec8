// The engine as its users see it: requests at once, cancelled, refused, repeated.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <latch>
#include <mutex>
#include <set>
#include <thread>

#include "model/golden_models.h"
#include "support/test_folder.h"
#include "text/grammar.h"

namespace hearth {
namespace {

constexpr int kContext = 192;

struct Answer {
  std::string text;
  std::vector<Token> tokens;
  Piece last;
};

Answer read(Stream& stream) {
  Answer answer;
  do {
    answer.last = stream.next();
    answer.text += answer.last.text;
    answer.tokens.insert(answer.tokens.end(), answer.last.tokens.begin(), answer.last.tokens.end());
  } while (!answer.last.done);
  return answer;
}

// A random model with 64 tokens (capitals, digits, punctuation): it answers gibberish, always the same.
Model load_random_model() {
  auto backend = create_backend("cpu", {.n_threads = 2, .isa = {}}).value();
  return load_model(HEARTH_TEST_DATA "/families/llama/model.gguf", std::move(backend),
                    {.context = kContext, .rows_max = 0, .progress = {}})
      .value();
}

std::unique_ptr<Engine> make_engine(EngineOptions options) {
  return Engine::create(load_random_model(), options).value();
}

Request request(const Engine& engine, std::string_view text, int max_tokens, uint64_t seed = 1) {
  Request made;
  made.prompt = encode_prompt(*engine.model().text.tokenizer, text);
  made.sampling.seed = seed;
  made.max_tokens = max_tokens;
  made.ignore_eos = true;
  return made;
}

TEST(Engine, RequestsAtOnceGetTheAnswersTheyWouldGetAlone) {
  const std::vector<std::string> texts{"THE SEA IS", "Once upon a time there was", "1, 2, 3,",
                                       "def main():", "In winter"};
  std::vector<std::vector<Token>> alone;
  {
    const auto engine = make_engine({.parallel = 1});
    for (size_t i = 0; i < texts.size(); ++i)
      alone.push_back(read(*engine->submit(request(*engine, texts[i], 20, i)).value()).tokens);
  }
  const auto engine = make_engine({.parallel = 3, .prefill_max = 4});
  std::vector<std::unique_ptr<Stream>> streams;
  for (size_t i = 0; i < texts.size(); ++i)
    streams.push_back(engine->submit(request(*engine, texts[i], 20, i)).value());
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(read(*streams[i]).tokens, alone[i]) << texts[i];
}

TEST(Engine, TheNextTurnOfAConversationReusesItsStateAndAnswersTheSame) {
  const auto engine = make_engine({.parallel = 1});
  const std::string first = "A LONG BEGINNING OF A CONVERSATION ABOUT SHIPS AND THE SEA, MORE THAN A PAGE.";
  const Answer one = read(*engine->submit(request(*engine, first, 12)).value());
  EXPECT_EQ(one.last.usage.cached_tokens, 0);
  const Request next = request(*engine, first + one.text + " AND THEN", 12);
  const Answer two = read(*engine->submit(next).value());
  EXPECT_GT(two.last.usage.cached_tokens, 20);
  const auto fresh = make_engine({.parallel = 1});
  EXPECT_EQ(read(*fresh->submit(next).value()).tokens, two.tokens) << "a cached prefix changes nothing";
}

// The random model with matrices of two planes, from its pack.
Result<Model> load_nested_model(const std::filesystem::path& folder, int bits = 8) {
  const std::filesystem::path path = folder / "nested.pack";
  if (!std::filesystem::exists(path)) {
    std::vector<std::vector<std::byte>> memory;
    TRY(write_pack(encoded(open_checkpoint(kGoldenFolder / "llama/model.gguf").value(), info(Type::kI8), memory), path,
                   1));
  }
  return load_model(path, create_backend("cpu", {.n_threads = 2, .isa = {}}).value(),
                    {.context = kContext, .rows_max = 0, .progress = {}, .bits = bits});
}

const std::string kLongText = "A LONG BEGINNING OF A CONVERSATION ABOUT SHIPS AND THE SEA, MORE THAN A PAGE OF IT.";

// State of one precision under tokens of another would be an answer that no precision gives.
TEST(EnginePrecision, WhatOnePrecisionComputedIsNotGoneOnFromAtAnother) {
  const TestFolder folder;
  const auto engine = Engine::create(load_nested_model(folder.path()).value(), {.may_switch_precision = true}).value();
  const auto fixed = Engine::create(load_nested_model(folder.path(), 4).value(), {}).value();
  const auto ask = [&](Engine& of) { return read(*of.submit(request(of, kLongText, 12)).value()); };
  const Answer at_8 = ask(*engine);
  ASSERT_EQ(message(engine->set_precision({4})), "");
  const Answer at_4 = ask(*engine);
  EXPECT_EQ(at_4.last.usage.cached_tokens, 0);
  EXPECT_EQ(at_4.tokens, ask(*fixed).tokens);
  ASSERT_EQ(message(engine->set_precision({8})), "");
  const Answer again = ask(*engine);
  EXPECT_GT(again.last.usage.cached_tokens, 20) << "what was kept at 8 bits is there still";
  EXPECT_EQ(again.tokens, at_8.tokens);
}

TEST(EnginePrecision, AnAnswerUnderWayGoesOnAndLeavesNothingToOthers) {
  const TestFolder folder;
  const auto engine = Engine::create(load_nested_model(folder.path()).value(), {.may_switch_precision = true}).value();
  auto stream = engine->submit(request(*engine, kLongText, 60)).value();
  stream->next();
  // From any thread, as often as it likes, between any two tokens.
  std::jthread other([&](const std::stop_token& stop) {
    for (int bits = 4; !stop.stop_requested(); bits = 12 - bits) EXPECT_EQ(message(engine->set_precision({bits})), "");
  });
  EXPECT_EQ(read(*stream).last.usage.completion_tokens, 60);
  other.request_stop();
  other.join();
  ASSERT_EQ(message(engine->set_precision({8})), "");
  const Answer after = read(*engine->submit(request(*engine, kLongText, 12)).value());
  const auto fresh = Engine::create(load_nested_model(folder.path()).value(), {}).value();
  EXPECT_EQ(after.tokens, read(*fresh->submit(request(*fresh, kLongText, 12)).value()).tokens);
}

class LowPacer final : public Pacer {
 public:
  Result<void> admit(const Request& /*request*/) override { return {}; }
  Pacing step_done(const Rows& /*rows*/) override { return {.bits = 4}; }
  Energy take_energy() override { return {}; }
};

// A governor may lower it where that is allowed, and the answer says so.
TEST(EnginePrecision, APacerMayLowerItWhereItMayBeSwitched) {
  const TestFolder folder;
  const auto fixed = Engine::create(load_nested_model(folder.path(), 4).value(), {}).value();
  const Answer at_4 = read(*fixed->submit(request(*fixed, kLongText, 12)).value());
  for (const bool may : {true, false}) {
    const auto engine = Engine::create(load_nested_model(folder.path()).value(),
                                       {.may_switch_precision = may, .pacer = std::make_shared<LowPacer>()})
                            .value();
    read(*engine->submit(request(*engine, "X", 1)).value());  // from then on the pacer is heard
    const Answer answer = read(*engine->submit(request(*engine, kLongText, 12)).value());
    EXPECT_EQ(answer.tokens == at_4.tokens, may);
    EXPECT_EQ(answer.last.usage.bits_lowered, may);
  }
}

TEST(EnginePrecision, IsFixedUnlessAskedForAndChecked) {
  const TestFolder folder;
  const auto fixed = Engine::create(load_nested_model(folder.path()).value(), {}).value();
  EXPECT_NE(message(fixed->set_precision({4})).find("--precision auto"), std::string::npos);
  const auto plain = make_engine({.may_switch_precision = true});
  EXPECT_NE(message(plain->set_precision({4})).find("no low planes"), std::string::npos);
  const auto engine = Engine::create(load_nested_model(folder.path()).value(), {.may_switch_precision = true}).value();
  for (const std::vector<int>& bits : {std::vector<int>{}, {5}, {4, 8}, std::vector<int>(99, 4)})
    EXPECT_EQ(engine->set_precision(bits).error().code, Code::kInvalidArgument);
  std::vector<int> each(static_cast<size_t>(engine->model().decoder->n_units()), 4);
  each.front() = 8;
  EXPECT_EQ(message(engine->set_precision(each)), "");
}

// Saved states outlive the run, and the next may be at another precision.
TEST(EnginePrecision, SavedStatesAreOfOnePrecision) {
  const TestFolder folder, states;
  const Key key = Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{7})).value();
  const auto ask = [&](int bits) {
    const std::shared_ptr<StateCache> cache = StateCache::open(states.path(), key, 1 << 30).value();
    const auto engine =
        Engine::create(load_nested_model(folder.path(), bits).value(), {.state_cache = cache, .model_digest = "m"})
            .value();
    return read(*engine->submit(request(*engine, kLongText + kLongText, 8)).value());
  };
  const Answer at_8 = ask(8);
  EXPECT_EQ(at_8.last.usage.cached_tokens, 0);
  EXPECT_EQ(ask(4).last.usage.cached_tokens, 0);
  EXPECT_GT(ask(4).last.usage.cached_tokens, 100);
  const Answer again = ask(8);
  EXPECT_GT(again.last.usage.cached_tokens, 100);
  EXPECT_EQ(again.tokens, at_8.tokens);
}

TEST(Engine, CancelledAndDroppedRequestsFreeTheirPlace) {
  const auto engine = make_engine({.parallel = 1});
  for (int i = 0; i < 20; ++i) {
    auto stream = engine->submit(request(*engine, "TELL ME", -1)).value();
    if (i % 3 == 0) stream->next();
    if (i % 2 == 0) stream->cancel();
    if (i % 4 == 0) {
      const Finish finish = read(*stream).last.finish;  // where nobody else runs, it may be done before it is cancelled
      EXPECT_TRUE(finish == Finish::kCancelled || finish == Finish::kContext || finish == Finish::kEnd);
    }
  }
  EXPECT_EQ(read(*engine->submit(request(*engine, "THE SEA IS", 5)).value()).tokens.size(), 5u);
}

// The log probability of `candidate` after `prompt`, token by token, as logprobs of forced greedy steps would add up.
double score_alone(Engine& engine, std::vector<Token> prompt, std::span<const Token> candidate) {
  double sum = 0;
  for (const Token token : candidate) {
    Request step;
    step.prompt = prompt;
    step.max_tokens = 1;
    step.ignore_eos = true;
    step.logprobs = 64;
    const Piece piece = [&] {
      auto stream = engine.submit(std::move(step)).value();
      Piece got = stream->next();
      while (got.logprobs.empty()) got = stream->next();
      return got;
    }();
    for (const auto& [other, logprob] : piece.logprobs.front().top)
      if (other == token) sum += static_cast<double>(logprob);
    prompt.push_back(token);
  }
  return sum;
}

TEST(Engine, ScoresOfCandidatesAreTheLogProbabilitiesOfTheirTokens) {
  const auto engine = make_engine({.parallel = 2});
  Request ask = request(*engine, "THE SEA IS", 5);
  ask.candidates = {{7}, {8, 9, 10}, {8, 9, 11}, std::vector<Token>(80, 12)};
  const Answer answer = read(*engine->submit(ask).value());
  ASSERT_EQ(answer.last.scores.size(), 4u);
  EXPECT_EQ(answer.last.finish, Finish::kEnd);
  EXPECT_EQ(answer.last.usage.completion_tokens, 0) << "nothing is generated";
  const auto alone = make_engine({.parallel = 1, .kept_max = 0});
  for (size_t i = 0; i < ask.candidates.size(); ++i)
    EXPECT_NEAR(answer.last.scores[i], score_alone(*alone, ask.prompt, ask.candidates[i]), 1e-3) << i;
  for (const auto& bad :
       std::vector<std::vector<std::vector<Token>>>{{{}}, {{-1}}, {{1 << 20}}, {std::vector<Token>(kContext, 1)}}) {
    ask.candidates = bad;
    EXPECT_FALSE(engine->submit(ask));
  }
}

TEST(Engine, LogProbabilitiesAreOfTheTokensChosenAndTheirAlternatives) {
  const auto engine = make_engine({.parallel = 1});
  Request ask = request(*engine, "THE SEA IS", 6);
  const std::vector<Token> plain = read(*engine->submit(ask).value()).tokens;
  ask.logprobs = 64;  // all there are
  auto stream = engine->submit(ask).value();
  std::vector<TokenLogprob> logprobs;
  for (Piece piece = stream->next();; piece = stream->next()) {
    logprobs.insert(logprobs.end(), piece.logprobs.begin(), piece.logprobs.end());
    if (piece.done) break;
  }
  ASSERT_EQ(logprobs.size(), plain.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(logprobs[i].token, plain[i]) << "asking for them changes nothing";
    double sum = 0;
    for (const auto& [token, logprob] : logprobs[i].top) sum += std::exp(logprob);
    EXPECT_NEAR(sum, 1.0, 1e-4);
    EXPECT_GE(logprobs[i].top.front().second, logprobs[i].logprob);
  }
}

TEST(Engine, PromptsThatBeginAlikeShareTheirStateWithinATenantOnly) {
  const std::string shared = "A LONG BEGINNING OF A CONVERSATION ABOUT SHIPS AND THE SEA, MORE THAN A PAGE LONG IT IS.";
  const auto fresh = make_engine({.parallel = 1, .kept_max = 0});
  const auto engine = make_engine({.parallel = 4});
  const auto ask = [&](const std::string& tail, const std::string& tenant) {
    Request made = request(*engine, shared + tail, 8);
    made.tenant = tenant;
    return made;
  };
  EXPECT_EQ(read(*engine->submit(ask(" ONE", "a")).value()).last.usage.cached_tokens, 0);
  std::vector<std::unique_ptr<Stream>> streams;
  for (const char* tail : {" TWO", " THREE", " FOUR"}) streams.push_back(engine->submit(ask(tail, "a")).value());
  streams.push_back(engine->submit(ask(" TWO", "b")).value());
  for (size_t i = 0; i < 3; ++i) {
    const Answer answer = read(*streams[i]);
    EXPECT_GT(answer.last.usage.cached_tokens, 60) << i;
    EXPECT_EQ(answer.tokens, read(*fresh->submit(ask(i == 0   ? " TWO"
                                                     : i == 1 ? " THREE"
                                                              : " FOUR",
                                                     "a"))
                                       .value())
                                 .tokens);
  }
  EXPECT_EQ(read(*streams[3]).last.usage.cached_tokens, 0) << "another tenant's prompt is not there for this one";
}

TEST(Engine, TheSamePromptAtOnceIsRunOnce) {
  const auto engine = make_engine({.parallel = 4, .prefill_max = 32});
  const std::string text =
      "THE SAME LONG PROMPT, ASKED FOR BY FOUR AT ONE TIME: WHAT IS THE SEA, AND WHO SAILS ON IT? TELL ME NOW.";
  std::vector<std::unique_ptr<Stream>> streams;
  for (uint64_t seed = 0; seed < 4; ++seed) streams.push_back(engine->submit(request(*engine, text, 4, seed)).value());
  int cached = 0;
  for (auto& stream : streams) cached += read(*stream).last.usage.cached_tokens > 60 ? 1 : 0;
  EXPECT_EQ(cached, 3);
}

// An answer that the engine stands still in the middle of until go(), however the machine shares out its time.
class HeldAnswer {
 public:
  HeldAnswer(Engine& engine, const Request& asked) {
    do {
      tokens.clear();
      stream = engine.submit(asked).value();
      bool told = false;
      stream->on_news([this, &told, own = std::this_thread::get_id()] {
        if (std::this_thread::get_id() == own) {
          told = true;
        } else if (!held_.exchange(true)) {
          held_.notify_all();
          go_.wait();
        }
      });
      if (told) tokens = stream->next().tokens;  // what had come before; the engine tells of the next token
    } while (static_cast<int>(tokens.size()) > kContext / 2);  // too much of it: there may be no next one
    held_.wait(false);
  }
  void go() { go_.count_down(); }
  std::vector<Token> tokens;
  std::unique_ptr<Stream> stream;  // not to be touched before go()

 private:
  std::atomic<bool> held_{false};
  std::latch go_{1};
};

TEST(Engine, RealTimeWorkTakesAPlaceAtOnceAndItsVictimGoesOnUnchanged) {
  const auto engine = make_engine({.parallel = 1, .kept_max = 2});
  Request batch = request(*engine, "A LONG JOB", -1);
  batch.request_class = RequestClass::kBatch;
  const std::vector<Token> expected = read(*engine->submit(batch).value()).tokens;
  HeldAnswer job(*engine, batch);
  Request urgent = request(*engine, std::string(170, 'B'), 3);  // nearly the whole cache: the victim's pages are needed
  urgent.request_class = RequestClass::kRealtime;
  const auto urgent_stream = engine->submit(urgent).value();
  job.go();
  const Answer answer = read(*urgent_stream);
  EXPECT_EQ(answer.tokens.size(), 3u);
  const Answer rest = read(*job.stream);
  job.tokens.insert(job.tokens.end(), rest.tokens.begin(), rest.tokens.end());
  EXPECT_EQ(job.tokens, expected);
  EXPECT_EQ(engine->stats().preemptions, 1u);
}

// Without patience everyone is overdue at once, so a batch comes in the order of arrival between interactive work.
TEST(Engine, WhoHasWaitedTooLongGetsAPlaceOutOfTurn) {
  for (const bool patient : {true, false}) {
    const auto engine = make_engine({.parallel = 1, .patience_seconds = patient ? 1e9 : 0.0});
    HeldAnswer busy(*engine, request(*engine, "FIRST", -1));
    Request low = request(*engine, "LOW", 8);
    low.request_class = RequestClass::kBatch;
    const auto batch = engine->submit(low).value(), interactive = engine->submit(request(*engine, "SECOND", 8)).value();
    std::mutex mutex;
    std::string order;
    for (const auto& [stream, letter] : {std::pair(batch.get(), 'b'), std::pair(interactive.get(), 'i')})
      stream->on_news([&mutex, &order, letter] {
        const std::scoped_lock lock(mutex);
        if (!order.contains(letter)) order += letter;
      });
    busy.go();
    EXPECT_EQ(read(*batch).tokens.size(), 8u);
    EXPECT_EQ(read(*interactive).tokens.size(), 8u);
    EXPECT_EQ(order, patient ? "ib" : "bi");
  }
}

TEST(Engine, ADeadlineThatCannotBeMetIsRefusedAndOneThatPassesEndsTheAnswer) {
  const auto engine = make_engine({.parallel = 1});
  read(*engine->submit(request(*engine, std::string(100, 'A'), 40)).value());  // by which the pace is known
  Request late = request(*engine, std::string(150, 'B'), 30);
  late.deadline_seconds = 1e-6;
  const auto refused = engine->submit(late);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kBusy);
  EXPECT_NE(refused.error().message.find("would take about"), std::string::npos) << refused.error().message;
  const auto fresh = make_engine({.parallel = 1});  // knows nothing of its pace, so it takes the request
  const Answer answer = read(*fresh->submit(late).value());
  EXPECT_EQ(answer.last.finish, Finish::kDeadline);
  EXPECT_LT(answer.tokens.size(), 30u);
}

TEST(Engine, AnswersKeepToTheirGrammarWhateverTheModelWants) {
  const auto engine = make_engine({.parallel = 3});
  const auto grammar =
      Grammar::from_choices(std::vector<std::string>{"OPEN THE GATE", "CLOSE THE GATE", "NONE"}).value();
  std::vector<std::unique_ptr<Stream>> streams;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    Request ask = request(*engine, "WHAT NOW?", seed % 4 == 3 ? 3 : 30, seed);
    ask.ignore_eos = false;
    ask.grammar = grammar;
    ask.sampling.temperature = static_cast<float>(seed % 3);
    ask.sampling.top_k = seed % 2 == 0 ? 0 : 5;
    ask.logprobs = seed % 5 == 0 ? 2 : -1;
    streams.push_back(engine->submit(ask).value());
    ask.ignore_eos = true;
    EXPECT_EQ(engine->submit(std::move(ask)).error().code, Code::kInvalidArgument) << "the form has to end";
  }
  std::set<std::string> answers;
  for (size_t i = 0; i < streams.size(); ++i) {
    const Answer answer = read(*streams[i]);
    EXPECT_EQ(answer.last.finish, i % 4 == 3 && !grammar->matches(answer.text) ? Finish::kLength : Finish::kEnd);
    EXPECT_TRUE(grammar->matches_prefix(answer.text)) << answer.text;
    if (answer.last.finish != Finish::kEnd) continue;
    EXPECT_TRUE(grammar->matches(answer.text)) << answer.text;
    answers.insert(answer.text);
  }
  EXPECT_GT(answers.size(), 1u) << "the model chooses among them";
}

TEST(Engine, StateOnDiskOutlivesTheEngineAndIsItsOwnersAlone) {
  const TestFolder home;
  const std::filesystem::path& folder = home.path();
  const Key key = Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{7})).value();
  std::string text;
  for (int i = 0; text.size() < 500; ++i) text += fmt::format("SHIP {} SAILS. ", i * i);
  const auto ask = [&](const std::string& tenant, uint64_t bytes_max, const std::string& digest) {
    std::shared_ptr<StateCache> cache = StateCache::open(folder, key, bytes_max).value();
    const auto engine = make_engine({.parallel = 1, .state_cache = cache, .model_digest = digest});
    Request made = request(*engine, text, 8);
    made.prompt.resize(170);
    made.tenant = tenant;
    return read(*engine->submit(std::move(made)).value());
  };
  const Answer first = ask("a", 1 << 30, "m1");
  EXPECT_EQ(first.last.usage.cached_tokens, 0);
  EXPECT_EQ(ask("b", 1 << 30, "m1").last.usage.cached_tokens, 0) << "another tenant";
  EXPECT_EQ(ask("a", 1 << 30, "m2").last.usage.cached_tokens, 0) << "another model";
  const Answer again = ask("a", 1 << 30, "m1");
  EXPECT_GT(again.last.usage.cached_tokens, 160);
  EXPECT_EQ(again.tokens, first.tokens);
  for (const auto& file :
       std::filesystem::directory_iterator(folder)) {  // damage is noticed, and nothing lost but time
    std::fstream damaged(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    damaged.seekp(static_cast<std::streamoff>(std::filesystem::file_size(file.path())) - 100);
    damaged << "damaged";
  }
  const Answer damaged = ask("a", 1 << 30, "m1");
  EXPECT_EQ(damaged.last.usage.cached_tokens, 0);
  EXPECT_EQ(damaged.tokens, first.tokens);
  EXPECT_EQ(ask("a", 1000, "m1").last.usage.cached_tokens, 0) << "the limit holds from the start";
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(Engine, ListenersHearOfEveryPiece) {
  const auto engine = make_engine({.parallel = 1});
  auto stream = engine->submit(request(*engine, "THE SEA IS", 10)).value();
  std::mutex mutex;
  std::condition_variable heard;
  int news = 0;
  stream->on_news([&] {
    const std::scoped_lock lock(mutex);
    ++news;
    heard.notify_one();
  });
  std::vector<Token> tokens;
  for (bool done = false; !done;) {
    std::unique_lock lock(mutex);
    heard.wait(lock, [&] { return news > 0; });
    news = 0;
    lock.unlock();
    while (const auto piece = stream->next_for(std::chrono::milliseconds(0))) {
      tokens.insert(tokens.end(), piece->tokens.begin(), piece->tokens.end());
      if ((done = piece->done)) break;
    }
  }
  EXPECT_EQ(tokens.size(), 10u);
}

TEST(Engine, RefusesAtTheDoorWithTheNumbers) {
  const auto engine = make_engine({.parallel = 1, .queue_max = 2});
  auto refused = [&](auto change) {
    Request bad = request(*engine, "THE SEA", 5);
    change(bad);
    const auto result = engine->submit(std::move(bad));
    EXPECT_FALSE(result);
    return result ? Error{} : result.error();
  };
  EXPECT_EQ(refused([](Request& r) { r.prompt.clear(); }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.prompt.assign(kContext, 5); }).code, Code::kLimit);
  EXPECT_EQ(refused([](Request& r) { r.prompt.push_back(-1); }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.prompt.push_back(1 << 30); }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.sampling.logit_bias = {{64, 1.0f}}; }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.stop = {""}; }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.sampling.temperature = -1; }).code, Code::kInvalidArgument);
  HeldAnswer running(*engine, request(*engine, "GO ON", -1));
  const auto second = engine->submit(request(*engine, "GO ON", 1)),
             third = engine->submit(request(*engine, "GO ON", 1));
  EXPECT_TRUE(second && third);
  EXPECT_EQ(engine->submit(request(*engine, "GO ON", 1)).error().code, Code::kBusy)
      << "a full queue refuses instead of growing";
  running.go();
}

TEST(Engine, EndsAnswersForTheReasonItSays) {
  const auto engine = make_engine({.parallel = 1});
  EXPECT_EQ(read(*engine->submit(request(*engine, "THE SEA IS", 3)).value()).last.finish, Finish::kLength);
  EXPECT_EQ(read(*engine->submit(request(*engine, "THE SEA IS", 0)).value()).last.usage.completion_tokens, 0);
  const Answer full = read(*engine->submit(request(*engine, "THE SEA IS", -1)).value());
  EXPECT_EQ(full.last.finish, Finish::kContext);
  EXPECT_EQ(full.last.usage.prompt_tokens + full.last.usage.completion_tokens, kContext);
  Request stop = request(*engine, "THE SEA IS", 40);
  const std::string whole = read(*engine->submit(stop).value()).text;
  stop.stop = {"never there", whole.substr(10, 5)};
  const Answer stopped = read(*engine->submit(stop).value());
  EXPECT_EQ(stopped.last.finish, Finish::kStop);
  EXPECT_EQ(stopped.text, whole.substr(0, whole.find(stop.stop[1]))) << "the answer ends before the stop text";
}

TEST(Engine, ShutsDownWhileStreamsWait) {
  auto engine = make_engine({.parallel = 1});
  std::vector<std::unique_ptr<Stream>> streams;  // more than can be answered before the engine goes
  for (int i = 0; i < 60; ++i) streams.push_back(engine->submit(request(*engine, "GO ON", -1)).value());
  streams.front()->next();
  auto reader = std::async(std::launch::async, [&] { return read(*streams.back()).last.finish; });
  engine.reset();
  EXPECT_EQ(reader.get(), Finish::kCancelled);
  for (auto& stream : streams) EXPECT_TRUE(stream->next().done || stream->next().done);
}

}  // namespace
}  // namespace hearth
