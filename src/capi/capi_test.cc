// The C interface as a C program meets it: wrong arguments are errors, lifetimes and threads hold what hearth.h says.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hearth/hearth.h"
#include "support/test_folder.h"

namespace {

// 64 tokens: upper case, digits, punctuation and "TH"; answers with gibberish, always the same.
constexpr const char* kModel = HEARTH_TEST_DATA "/families/llama/model.gguf";

struct FreeEngine {
  void operator()(hearth_engine* engine) const { hearth_engine_free(engine); }
};
struct FreeStream {
  void operator()(hearth_stream* stream) const { hearth_stream_free(stream); }
};
using EnginePtr = std::unique_ptr<hearth_engine, FreeEngine>;
using StreamPtr = std::unique_ptr<hearth_stream, FreeStream>;

hearth_options one_thread() {
  hearth_options options = HEARTH_OPTIONS_INIT;
  options.threads = 1;
  return options;
}

EnginePtr load(hearth_options options = one_thread()) {
  hearth_error error;
  EnginePtr engine(hearth_load(kModel, &options, &error));
  EXPECT_TRUE(engine) << error.message;
  return engine;
}

hearth_request greedy(const char* prompt, int max_tokens) {
  hearth_request request = HEARTH_REQUEST_INIT;
  request.prompt = prompt;
  request.temperature = 0;
  request.max_tokens = max_tokens;
  return request;
}

struct Answer {
  std::string text;
  size_t n_tokens = 0;
  hearth_finish finish = HEARTH_FINISH_NONE;
  hearth_usage usage{};
};
Answer read_all(hearth_stream* stream) {
  Answer answer;
  hearth_error error;
  hearth_piece piece = HEARTH_PIECE_INIT;
  while (!piece.done) {
    const hearth_code code = hearth_next(stream, -1, &piece, &error);
    EXPECT_EQ(code, HEARTH_OK) << error.message;
    if (code != HEARTH_OK) return answer;
    EXPECT_EQ(std::strlen(piece.text), piece.text_bytes);
    answer.text.append(piece.text, piece.text_bytes);
    answer.n_tokens += piece.n_tokens;
  }
  answer.finish = piece.finish;
  answer.usage = *piece.usage;
  return answer;
}

Answer ask(hearth_engine* engine, const hearth_request& request) {
  hearth_error error;
  const StreamPtr stream(hearth_submit(engine, &request, &error));
  EXPECT_TRUE(stream) << error.message;
  return stream ? read_all(stream.get()) : Answer{};
}

TEST(Capi, NamesItsVersionAndEveryCode) {
  EXPECT_STREQ(hearth_version(), HEARTH_VERSION);
  EXPECT_STREQ(hearth_code_name(HEARTH_OK), "ok");
  EXPECT_STREQ(hearth_code_name(HEARTH_NOT_FOUND), "not_found");
  EXPECT_STREQ(hearth_code_name(HEARTH_INTERNAL), "internal");
  EXPECT_STREQ(hearth_code_name(HEARTH_TIMEOUT), "timeout");
  EXPECT_STREQ(hearth_code_name(static_cast<hearth_code>(12)), "unknown");
}

TEST(Capi, AnAnswerComesInPiecesWithItsUsage) {
  const EnginePtr engine = load();
  const Answer answer = ask(engine.get(), greedy("THE CAT", 8));
  EXPECT_EQ(answer.text.size(), 8u);
  EXPECT_EQ(answer.n_tokens, 8u);
  EXPECT_EQ(answer.finish, HEARTH_FINISH_LENGTH);
  EXPECT_EQ(answer.usage.prompt_tokens, 6);  // "TH" is one token
  EXPECT_EQ(answer.usage.completion_tokens, 8);
}

// What a program is charged with, where the figure comes from, and what guessing brought.
TEST(Capi, UsageTellsEnergyAndGuesses) {
  const EnginePtr engine = load();
  const hearth_usage usage = ask(engine.get(), greedy("THE CAT THE CAT THE CAT", 60)).usage;
  EXPECT_NE(usage.joules_source, HEARTH_SOURCE_ABSENT);
  EXPECT_GT(usage.joules, 0);
  EXPECT_GE(usage.drafted_tokens, usage.accepted_tokens);
  EXPECT_GE(usage.accepted_tokens, 0);
  EXPECT_EQ(usage.bits_lowered, 0);
  EXPECT_EQ(offsetof(hearth_usage, joules), 40u) << "programs built against the first header read what is before";
}

TEST(Capi, ThermalHeadroomIsTakenCheckedAndChangesNoAnswer) {
  const EnginePtr engine = load();
  const std::string text = ask(engine.get(), greedy("THE CAT", 32)).text;
  hearth_error error;
  EXPECT_EQ(hearth_thermal_headroom(engine.get(), 0.97f, &error), HEARTH_OK) << error.message;
  EXPECT_EQ(hearth_thermal_headroom(engine.get(), NAN, &error), HEARTH_OK) << "Android's word for not knowing";
  EXPECT_EQ(ask(engine.get(), greedy("THE CAT", 32)).text, text);
  for (const float wrong : {-0.1f, 101.0f, INFINITY}) {
    EXPECT_EQ(hearth_thermal_headroom(engine.get(), wrong, &error), HEARTH_INVALID_ARGUMENT) << wrong;
    EXPECT_TRUE(std::string_view(error.message).find("use 0 to 100") != std::string_view::npos) << error.message;
  }
  EXPECT_EQ(hearth_thermal_headroom(nullptr, 0.5f, &error), HEARTH_INVALID_ARGUMENT);
}

TEST(Capi, AStopTextEndsTheAnswerAndIsNoPartOfIt) {
  const EnginePtr engine = load();
  hearth_request request = greedy("THE CAT", 8);
  const std::string whole = ask(engine.get(), request).text;
  const std::string stop = whole.substr(3, 2);
  const char* const stops[] = {stop.c_str()};
  request.stop = stops;
  request.n_stop = 1;
  const Answer answer = ask(engine.get(), request);
  EXPECT_EQ(answer.text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(answer.finish, HEARTH_FINISH_STOP);
}

// The cache is the caller's to place: the environment is not read, and a caller with the first header has none.
TEST(Capi, PacksAreKeptWhereTheCallerSays) {
  const hearth::TestFolder folder;
  const std::string packs = folder.path() / "packs";
  const auto n_packs = [&] {
    size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(packs)) n += entry.path().extension() == ".pack";
    return n;
  };
  hearth_options options = one_thread();
  options.cache = packs.c_str();
  const std::string from_files = ask(load().get(), greedy("THE CAT", 8)).text;
  EXPECT_EQ(ask(load(options).get(), greedy("THE CAT", 8)).text, from_files);
  EXPECT_EQ(n_packs(), 1u);
  EXPECT_EQ(ask(load(options).get(), greedy("THE CAT", 8)).text, from_files);
  std::filesystem::remove_all(packs);
  options.size = offsetof(hearth_options, cache);
  EXPECT_EQ(ask(load(options).get(), greedy("THE CAT", 8)).text, from_files);
  EXPECT_FALSE(std::filesystem::exists(packs));
}

TEST(Capi, TheSeedDecidesASampledAnswer) {
  const EnginePtr engine = load();
  hearth_request request = greedy("THE CAT", 16);
  request.temperature = 1.5f;
  request.seed = 7;
  const std::string first = ask(engine.get(), request).text;
  EXPECT_EQ(ask(engine.get(), request).text, first);
  request.seed = 8;
  EXPECT_NE(ask(engine.get(), request).text, first);
}

TEST(Capi, LoadingSaysWhatIsWrong) {
  struct Case {
    const char* model;
    void (*change)(hearth_options&);
    hearth_code code;
    const char* says;
  };
  const Case cases[] = {
      {nullptr, [](hearth_options&) {}, HEARTH_INVALID_ARGUMENT, "model is NULL"},
      {"/nowhere/x.gguf", [](hearth_options&) {}, HEARTH_NOT_FOUND, "/nowhere/x.gguf"},
      {HEARTH_TEST_DATA "/families/llama/config.json", [](hearth_options&) {}, HEARTH_UNSUPPORTED, "config.json"},
      {"tiny", [](hearth_options& o) { o.store = "/nowhere"; }, HEARTH_NOT_FOUND, "/nowhere: no model store"},
      {kModel, [](hearth_options& o) { o.size = 3; }, HEARTH_INVALID_ARGUMENT, "hearth_options.size is 3"},
      {kModel, [](hearth_options& o) { o.threads = -1; }, HEARTH_INVALID_ARGUMENT, "hearth_options.threads is -1"},
      {kModel, [](hearth_options& o) { o.parallel = 257; }, HEARTH_INVALID_ARGUMENT, "hearth_options.parallel is 257"},
      {kModel, [](hearth_options& o) { o.context = 1 << 30; }, HEARTH_INVALID_ARGUMENT, "hearth_options.context"},
      {kModel, [](hearth_options& o) { o.backend = "abacus"; }, HEARTH_NOT_FOUND, "abacus"},
      {kModel, [](hearth_options& o) { o.kv_type = "f7"; }, HEARTH_INVALID_ARGUMENT, "f7"},
  };
  for (const Case& c : cases) {
    hearth_options options = one_thread();
    c.change(options);
    hearth_error error;
    EXPECT_EQ(hearth_load(c.model, &options, &error), nullptr) << c.says;
    EXPECT_STREQ(hearth_code_name(error.code), hearth_code_name(c.code)) << error.message;
    EXPECT_NE(std::strstr(error.message, c.says), nullptr) << error.message;
    EXPECT_EQ(hearth_load(c.model, &options, nullptr), nullptr);  // nobody has to listen
  }
}

TEST(Capi, RequestsThatCannotWorkAreRefused) {
  const EnginePtr engine = load();
  struct Case {
    void (*change)(hearth_request&);
    hearth_code code;
    const char* says;
  };
  static const std::string long_prompt(5000, 'A');
  static const hearth_message no_role{nullptr, "A"}, question{"user", "A"};
  static const char* const no_text[] = {nullptr};
  const Case cases[] = {
      {[](hearth_request& r) { r.size = 8; }, HEARTH_INVALID_ARGUMENT, "hearth_request.size is 8"},
      {[](hearth_request& r) { r.prompt = nullptr; }, HEARTH_INVALID_ARGUMENT, "either prompt or messages"},
      {[](hearth_request& r) { r.messages = &question, r.n_messages = 1; }, HEARTH_INVALID_ARGUMENT,
       "either prompt or messages"},
      {[](hearth_request& r) { r.prompt = nullptr, r.n_messages = 1; }, HEARTH_INVALID_ARGUMENT, "messages is NULL"},
      {[](hearth_request& r) { r.prompt = nullptr, r.messages = &no_role, r.n_messages = 1; }, HEARTH_INVALID_ARGUMENT,
       "role is NULL"},
      {[](hearth_request& r) { r.prompt = nullptr, r.messages = &question, r.n_messages = 1; }, HEARTH_UNSUPPORTED,
       "no chat template"},
      {[](hearth_request& r) { r.prompt = ""; }, HEARTH_INVALID_ARGUMENT, "the prompt is empty"},
      {[](hearth_request& r) { r.prompt = long_prompt.c_str(); }, HEARTH_LIMIT, "5000 tokens"},
      {[](hearth_request& r) { r.n_stop = 1; }, HEARTH_INVALID_ARGUMENT, "hearth_request.stop is NULL"},
      {[](hearth_request& r) { r.stop = no_text, r.n_stop = 1; }, HEARTH_INVALID_ARGUMENT, "a stop text is NULL"},
      {[](hearth_request& r) { r.max_tokens = -2; }, HEARTH_INVALID_ARGUMENT, "max_tokens"},
      {[](hearth_request& r) { r.temperature = NAN; }, HEARTH_INVALID_ARGUMENT, "temperature"},
      {[](hearth_request& r) { r.top_p = 1.5f; }, HEARTH_INVALID_ARGUMENT, "top_p"},
  };
  hearth_error error;
  for (const Case& c : cases) {
    hearth_request request = greedy("THE CAT", 1);
    c.change(request);
    const StreamPtr stream(hearth_submit(engine.get(), &request, &error));
    EXPECT_FALSE(stream) << c.says;
    EXPECT_STREQ(hearth_code_name(error.code), hearth_code_name(c.code)) << error.message;
    EXPECT_NE(std::strstr(error.message, c.says), nullptr) << error.message;
  }
  EXPECT_EQ(hearth_submit(engine.get(), nullptr, &error), nullptr);
  EXPECT_EQ(error.code, HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(ask(engine.get(), greedy("THE CAT", 1)).n_tokens, 1u) << "the engine is as before";
}

TEST(Capi, NullObjectsAreErrorsOrNothing) {
  hearth_error error;
  hearth_piece piece = HEARTH_PIECE_INIT;
  const hearth_request request = greedy("THE CAT", 1);
  size_t count = 0;
  EXPECT_EQ(hearth_submit(nullptr, &request, &error), nullptr);
  EXPECT_STREQ(error.message, "engine is NULL");
  EXPECT_EQ(hearth_next(nullptr, 0, &piece, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_next(nullptr, 0, nullptr, nullptr), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_tokenize(nullptr, "A", 1, 0, nullptr, 0, &count, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_detokenize(nullptr, nullptr, 0, 0, nullptr, 0, &count, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_context(nullptr), 0);
  hearth_cancel(nullptr);
  hearth_stream_free(nullptr);
  hearth_engine_free(nullptr);
}

TEST(Capi, ALongMessageIsCutToFit) {
  const std::string path = "/nowhere/" + std::string(5000, 'x');
  hearth_error error;
  EXPECT_EQ(hearth_load(path.c_str(), nullptr, &error), nullptr);
  EXPECT_EQ(std::strlen(error.message), sizeof(error.message) - 1);
}

// The model goes on for the whole context unless it is stopped.
TEST(Capi, CancellingEndsTheAnswer) {
  const EnginePtr engine = load();
  hearth_error error;
  const hearth_request request = greedy("THE CAT", -1);
  const StreamPtr stream(hearth_submit(engine.get(), &request, &error));
  hearth_cancel(stream.get());
  hearth_cancel(stream.get());
  const Answer answer = read_all(stream.get());
  EXPECT_TRUE(answer.finish == HEARTH_FINISH_CANCELLED || answer.finish == HEARTH_FINISH_CONTEXT ||
              answer.finish == HEARTH_FINISH_END);
  const Answer again = read_all(stream.get());  // the end stays the end
  EXPECT_EQ(again.finish, answer.finish);
  EXPECT_EQ(again.text, "");
}

TEST(Capi, AStreamOutlivesItsEngine) {
  EnginePtr engine = load();
  hearth_error error;
  const hearth_request request = greedy("THE CAT", -1);
  // One place, so the last ones are still waiting when the engine goes.
  std::vector<StreamPtr> streams;
  for (int i = 0; i < 8; ++i) streams.emplace_back(hearth_submit(engine.get(), &request, &error));
  engine.reset();
  for (const StreamPtr& stream : streams) {
    ASSERT_TRUE(stream);
    EXPECT_NE(read_all(stream.get()).finish, HEARTH_FINISH_NONE);
  }
}

TEST(Capi, StreamsMayBeFreedWhileTheyGenerate) {
  const EnginePtr engine = load();
  hearth_error error;
  const hearth_request endless = greedy("THE CAT", -1);
  for (int i = 0; i < 8; ++i) {
    const StreamPtr stream(hearth_submit(engine.get(), &endless, &error));
    ASSERT_TRUE(stream) << error.message;
  }
  EXPECT_EQ(ask(engine.get(), greedy("THE CAT", 4)).n_tokens, 4u);
}

TEST(Capi, AFullQueueIsBusy) {
  hearth_options options = one_thread();
  options.queue = 1;
  const EnginePtr engine = load(options);
  const hearth_request endless = greedy("THE CAT", -1);
  hearth_error error;
  std::vector<StreamPtr> streams;
  do {
    streams.emplace_back(hearth_submit(engine.get(), &endless, &error));
  } while (streams.back() && streams.size() < 10000);
  EXPECT_EQ(error.code, HEARTH_BUSY) << error.message;
}

TEST(Capi, NextWaitsNoLongerThanAsked) {
  const EnginePtr engine = load();
  hearth_error error;
  const hearth_request request = greedy("THE CAT", 2);
  const StreamPtr stream(hearth_submit(engine.get(), &request, &error));
  hearth_piece piece = HEARTH_PIECE_INIT;
  std::string text;
  while (!piece.done) {
    const hearth_code code = hearth_next(stream.get(), 0, &piece, &error);
    ASSERT_TRUE(code == HEARTH_OK || code == HEARTH_TIMEOUT) << error.message;
    EXPECT_EQ(error.code, code);
    text.append(piece.text, piece.text_bytes);
  }
  EXPECT_EQ(text.size(), 2u);
  EXPECT_EQ(hearth_next(stream.get(), -2, &piece, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_next(stream.get(), 0, nullptr, &error), HEARTH_INVALID_ARGUMENT);
  piece.size = 1;
  EXPECT_EQ(hearth_next(stream.get(), 0, &piece, &error), HEARTH_INVALID_ARGUMENT);
}

TEST(Capi, TwoEnginesAndAStreamPerThreadDoNotMeet) {
  hearth_options options = one_thread();
  options.parallel = 2;
  const EnginePtr first = load(options), second = load();
  const std::string expected = ask(second.get(), greedy("THE CAT", 32)).text;
  const std::string other = ask(second.get(), greedy("A DOG", 32)).text;
  std::vector<std::jthread> threads;
  std::vector<std::string> answers(4);
  for (size_t i = 0; i < answers.size(); ++i)
    threads.emplace_back([&, i] {
      answers[i] = ask(i < 3 ? first.get() : second.get(), greedy(i % 2 == 0 ? "THE CAT" : "A DOG", 32)).text;
    });
  threads.clear();
  for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i], i % 2 == 0 ? expected : other) << i;
}

TEST(Capi, TextBecomesTokensAndTextAgain) {
  const EnginePtr engine = load();
  hearth_error error;
  size_t n_tokens = 0, text_bytes = 0;
  ASSERT_EQ(hearth_tokenize(engine.get(), "THE CAT", 7, 0, nullptr, 0, &n_tokens, &error), HEARTH_OK) << error.message;
  ASSERT_EQ(n_tokens, 6u);
  std::vector<int32_t> tokens(n_tokens);
  std::string text(7, '?');
  ASSERT_EQ(hearth_tokenize(engine.get(), "THE CAT", 7, 0, tokens.data(), tokens.size(), &n_tokens, &error), HEARTH_OK);
  ASSERT_EQ(hearth_detokenize(engine.get(), tokens.data(), n_tokens, 0, text.data(), text.size(), &text_bytes, &error),
            HEARTH_OK);
  EXPECT_EQ(text_bytes, 7u);
  EXPECT_EQ(text, "THE CAT");

  std::string part = "????";
  ASSERT_EQ(hearth_detokenize(engine.get(), tokens.data(), n_tokens, 0, part.data(), 3, &text_bytes, &error),
            HEARTH_OK);
  EXPECT_EQ(part, "THE?") << "writes no more than there is room for";
  EXPECT_EQ(text_bytes, 7u);

  ASSERT_EQ(hearth_tokenize(engine.get(), "<|end|>", 7, HEARTH_SPECIAL, tokens.data(), 1, &n_tokens, &error),
            HEARTH_OK);
  EXPECT_EQ(n_tokens, 1u);
  EXPECT_EQ(tokens[0], 0);
  tokens[0] = 64;
  EXPECT_EQ(hearth_detokenize(engine.get(), tokens.data(), 1, 0, nullptr, 0, &text_bytes, &error),
            HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_tokenize(engine.get(), nullptr, 1, 0, nullptr, 0, &n_tokens, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_tokenize(engine.get(), "A", 1, 4, nullptr, 0, &n_tokens, &error), HEARTH_INVALID_ARGUMENT);
  EXPECT_EQ(hearth_tokenize(engine.get(), "A", 1, 0, nullptr, 1, &n_tokens, &error), HEARTH_INVALID_ARGUMENT);
}

}  // namespace
