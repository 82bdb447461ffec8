// The engine as its users see it: requests at once, cancelled, refused, repeated.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <future>

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

TEST(Engine, CancelledAndDroppedRequestsFreeTheirPlace) {
  const auto engine = make_engine({.parallel = 1});
  for (int i = 0; i < 20; ++i) {
    auto stream = engine->submit(request(*engine, "TELL ME", -1)).value();
    if (i % 3 == 0) stream->next();
    if (i % 2 == 0) stream->cancel();
    if (i % 4 == 0) {
      EXPECT_EQ(read(*stream).last.finish, Finish::kCancelled);
    }
  }
  EXPECT_EQ(read(*engine->submit(request(*engine, "THE SEA IS", 5)).value()).tokens.size(), 5u);
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
  EXPECT_EQ(refused([](Request& r) { r.stop = {""}; }).code, Code::kInvalidArgument);
  EXPECT_EQ(refused([](Request& r) { r.sampling.temperature = -1; }).code, Code::kInvalidArgument);
  std::vector<std::unique_ptr<Stream>> streams;
  Error busy;
  for (int i = 0; i < 8 && busy.message.empty(); ++i) {
    auto stream = engine->submit(request(*engine, "GO ON", -1));
    if (stream)
      streams.push_back(std::move(*stream));
    else
      busy = stream.error();
  }
  EXPECT_EQ(busy.code, Code::kBusy) << "a full queue refuses instead of growing";
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
  auto running = engine->submit(request(*engine, "GO ON", -1)).value(),
       waiting = engine->submit(request(*engine, "AND I", -1)).value();
  running->next();
  auto reader = std::async(std::launch::async, [&] { return read(*waiting).last.finish; });
  engine.reset();
  EXPECT_EQ(reader.get(), Finish::kCancelled);
  EXPECT_EQ(read(*running).last.finish, Finish::kCancelled);
}

}  // namespace
}  // namespace hearth
