// More conversations than fit into memory: they go to disk and come back, or are run again, and nobody sees it in the tokens.
#include <gtest/gtest.h>

#include <fstream>

#include "engine/engine.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr int kContext = 256, kTurns = 3, kTokens = 8;

Model load_random_model(const char* family = "llama") {
  return load_model(kGoldenFolder / family / "model.gguf", create_backend("cpu", {.n_threads = 2, .isa = {}}).value(),
                    {.context = kContext, .rows_max = 0, .progress = {}})
      .value();
}

std::shared_ptr<StateCache> open_cache(const fs::path& folder, uint64_t bytes_max = 1 << 30) {
  return StateCache::open(folder, Key::from_bytes(std::vector<std::byte>(Key::kBytes, std::byte{7})).value(), bytes_max)
      .value();
}

Request request(std::vector<Token> prompt, int max_tokens) {
  Request made;
  made.prompt = std::move(prompt);
  made.sampling.seed = 5;
  made.max_tokens = max_tokens;
  made.ignore_eos = true;
  return made;
}

std::vector<Token> read(Stream& stream) {
  std::vector<Token> tokens;
  for (;;) {
    const Piece piece = stream.next();
    tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
    if (piece.done) return tokens;
  }
}

std::vector<Token> beginning(int conversation) {
  std::vector<Token> prompt;
  for (int i = 0; i < 150; ++i) prompt.push_back((i * (conversation * 2 + 7) + i / 9 + conversation) % 60);
  return prompt;
}

// Turn by turn, all conversations in each; `between` after each turn.
std::vector<std::vector<Token>> talk(Engine& engine, int conversations, const std::function<void()>& between = {}) {
  std::vector<std::vector<Token>> texts;
  for (int i = 0; i < conversations; ++i) texts.push_back(beginning(i));
  for (int turn = 0; turn < kTurns; ++turn) {
    std::vector<std::unique_ptr<Stream>> streams;
    for (const auto& text : texts) streams.push_back(engine.submit(request(text, kTokens)).value());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::vector<Token> answer = read(*streams[i]);
      texts[i].insert(texts[i].end(), answer.begin(), answer.end());
      texts[i].push_back(static_cast<Token>(turn));
    }
    if (between) between();
  }
  return texts;
}

std::vector<std::vector<Token>> undisturbed(int conversations, const char* family = "llama") {
  const auto engine = Engine::create(load_random_model(family), {.parallel = 2}).value();
  return talk(*engine, conversations);
}

constexpr int kConversations = 20;

// Of two contexts, where a few conversations have place.
EngineOptions small(std::shared_ptr<StateCache> cache) {
  EngineOptions options{.parallel = 2, .kv_pages_max = 16};
  options.state_cache = std::move(cache);
  options.model_digest = "m";
  return options;
}

TEST(EngineSwap, ManyMoreConversationsThanFitGoOnWithTheSameTokens) {
  for (const char* family : {"llama", "lfm2"}) {  // the second has recurrent layers
    const TestFolder folder;
    const auto expected = undisturbed(kConversations, family);
    const auto cache = open_cache(folder.path());
    const auto engine = Engine::create(load_random_model(family), small(cache)).value();
    EXPECT_EQ(talk(*engine, kConversations), expected) << family;
    const EngineStats stats = engine->stats();
    EXPECT_GT(stats.states_read, static_cast<uint64_t>(kConversations))
        << "each turn but the first, nearly all of them";
    EXPECT_EQ(stats.states_lost, 0u);
    EXPECT_GT(stats.cached_tokens, stats.prompt_tokens / 2);
  }
}

TEST(EngineSwap, WithoutADiskTheyAreRunAgain) {
  const auto expected = undisturbed(6);
  const auto engine = Engine::create(load_random_model(), small(nullptr)).value();
  EXPECT_EQ(talk(*engine, 6), expected);
}

TEST(EngineSwap, ADiskThatIsTooSmallOrDamagedCostsOnlyTime) {
  const auto expected = undisturbed(6);
  for (const uint64_t bytes_max : {uint64_t{1000}, uint64_t{200'000}}) {
    const TestFolder folder;
    const auto engine = Engine::create(load_random_model(), small(open_cache(folder.path(), bytes_max))).value();
    EXPECT_EQ(talk(*engine, 6), expected) << bytes_max;
  }
  const TestFolder folder;
  const auto engine = Engine::create(load_random_model(), small(open_cache(folder.path()))).value();
  EXPECT_EQ(talk(*engine, 6,
                 [&] {
                   for (const auto& file : fs::directory_iterator(folder.path())) {
                     std::fstream damaged(file.path(), std::ios::in | std::ios::out | std::ios::binary);
                     damaged.seekp(6000);
                     damaged << "damaged";
                   }
                 }),
            expected);
  EXPECT_GT(engine->stats().states_lost, 0u);
  const TestFolder gone;
  const auto other = Engine::create(load_random_model(), small(open_cache(gone.path() / "states"))).value();
  EXPECT_EQ(talk(*other, 6,
                 [&] {
                   std::error_code error;  // files may go meanwhile
                   fs::remove_all(gone.path() / "states", error);
                 }),
            expected)
      << "the folder is gone";
}

// One that is interrupted for each of many others, when none of its pages can stay.
TEST(EngineSwap, ParkedRequestsGoOnFromDiskOrFromTheirTokens) {
  Request batch = request(beginning(1), 90);
  batch.request_class = RequestClass::kBatch;
  batch.logprobs = 0;
  batch.prompt_logprobs = true;
  std::vector<Token> expected;
  size_t told = 0;
  const auto run = [&](Engine& engine, int interruptions) {
    std::vector<Token> tokens;
    size_t logprobs = 0;
    const auto stream = engine.submit(batch).value();
    for (int i = 0;; ++i) {
      const Piece piece = stream->next();
      tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
      logprobs += piece.logprobs.size();
      if (piece.done) break;
      if (i >= interruptions) continue;
      Request urgent = request(beginning(10 + i), 2);
      urgent.prompt.insert(urgent.prompt.end(), 90, 3);
      urgent.request_class = RequestClass::kRealtime;
      EXPECT_EQ(read(*engine.submit(std::move(urgent)).value()).size(), 2u);
    }
    return std::pair(tokens, logprobs);
  };
  std::tie(expected, told) = run(*Engine::create(load_random_model(), {.parallel = 1}).value(), 0);
  EXPECT_EQ(told, 149u + 90u);
  for (const bool disk : {true, false}) {
    const TestFolder folder;
    EngineOptions options = small(disk ? open_cache(folder.path()) : nullptr);
    options.parallel = 1;
    options.kv_pages_max = 8;
    for (bool parked = false; !parked;) {  // it may be over before the first interruption
      const auto engine = Engine::create(load_random_model(), options).value();
      const auto [tokens, logprobs] = run(*engine, 12);
      EXPECT_EQ(tokens, expected) << disk;
      EXPECT_EQ(logprobs, told) << "each is told of once";
      parked = engine->stats().preemptions > 0;
    }
  }
}

// A long prompt that comes first, and one whose state is there already and takes the pages that the first needs. The first has all rows of
// a step, but no room: if who makes room came back at once, nothing would run ever again.
TEST(EngineSwap, WhoWaitsForRoomIsNotKeptFromItByWhoMadeIt) {
  constexpr int kPages = 12, kChunk = 4 * kKvPagePositions;
  std::vector<Token> long_prompt;
  for (int i = 0; i < kContext - kTokens; ++i) long_prompt.push_back((i * i + 3) % 60);
  const auto plain = Engine::create(load_random_model(), {.parallel = 1}).value();
  const auto engine =
      Engine::create(load_random_model(), {.parallel = 2, .prefill_max = kChunk, .kv_pages_max = kPages}).value();
  const auto ask = [](Engine& of, std::vector<Token> prompt) {
    return of.submit(request(std::move(prompt), kTokens)).value();
  };
  const auto kept = read(*ask(*plain, beginning(0))), other = read(*ask(*plain, long_prompt));
  const auto before = engine->submit(request(beginning(0), 90)).value();  // the others come while there is no room
  const auto first = ask(*engine, long_prompt), second = ask(*engine, beginning(0));
  EXPECT_EQ(read(*before).size(), 90u);
  EXPECT_EQ(read(*first), other);
  EXPECT_EQ(read(*second), kept);
}

TEST(EngineSwap, TheBoundCanBeLoweredAndRaisedAtAnyTime) {
  const auto expected = undisturbed(kConversations);
  const TestFolder folder;
  EngineOptions options = small(open_cache(folder.path()));
  options.parallel = 4;
  options.kv_pages_max = 0;
  const auto engine = Engine::create(load_random_model(), options).value();
  std::jthread other([&](const std::stop_token& stop) {
    for (int pages = 8; !stop.stop_requested(); pages = 8 + (pages * 7) % 40) {
      engine->set_kv_pages_max(pages);
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(talk(*engine, kConversations), expected);
  other.request_stop();
  other.join();
  engine->set_kv_pages_max(1);  // no less than one context
  EXPECT_EQ(read(*engine->submit(request(expected[0], 4)).value()).size(), 4u);
  EXPECT_LE(engine->stats().kv_positions_used, kContext);
}

}  // namespace
}  // namespace hearth
