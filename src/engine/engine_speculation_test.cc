// Answers with guesses are the answers without, whatever is guessed and however it is sampled.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "engine/engine.h"
#include "model/golden_models.h"
#include "support/test_folder.h"
#include "text/grammar.h"

namespace hearth {
namespace {

constexpr int kContext = 256;

Model load(const std::string& family, std::shared_ptr<Backend> backend, int context = kContext) {
  const std::filesystem::path folder = kGoldenFolder / family, file = folder / "model.gguf";
  return load_model(std::filesystem::exists(file) ? file : folder, std::move(backend),
                    {.context = context, .rows_max = 0, .progress = {}})
      .value();
}

std::shared_ptr<Backend> make_backend(int n_threads = 2) {
  return create_backend("cpu", {.n_threads = n_threads, .isa = {}}).value();
}

std::unique_ptr<Engine> make_engine(const std::string& family, EngineOptions options, int n_threads = 2) {
  return Engine::create(load(family, make_backend(n_threads)), options).value();
}

struct Told {
  std::string text;
  std::vector<Token> tokens;
  std::vector<float> logprobs;
  Finish finish = Finish::kEnd;
  bool operator==(const Told&) const = default;
};

Told read(Stream& stream, Usage* usage = nullptr) {
  Told told;
  for (bool done = false; !done;) {
    const Piece piece = stream.next();
    told.text += piece.text;
    told.tokens.insert(told.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    for (const TokenLogprob& each : piece.logprobs) {
      told.logprobs.push_back(each.logprob);
      for (const auto& [token, logprob] : each.top) told.logprobs.push_back(logprob);
    }
    done = piece.done;
    told.finish = piece.finish;
    if (usage) *usage = piece.usage;
  }
  return told;
}

// Requests of every kind there is, some of which say beforehand much of what will come.
std::vector<Request> requests(Engine& plain) {
  const Tokenizer& tokenizer = *plain.model().text.tokenizer;
  std::vector<Request> all;
  const auto add = [&](auto change) {
    Request made;
    made.prompt = encode_prompt(tokenizer, "ONE TWO THREE, ONE TWO THREE, ONE TWO");
    made.sampling.seed = all.size();
    made.sampling.temperature = 0;
    made.max_tokens = 60;
    made.ignore_eos = true;
    change(made);
    all.push_back(std::move(made));
  };
  add([](Request&) {});
  add([](Request& r) { r.sampling.temperature = 0.8f; });
  add([](Request& r) { r.sampling.temperature = 0.3f, r.sampling.top_k = 0; });
  add([](Request& r) { r.sampling.temperature = 0.5f, r.sampling.repetition_penalty = 1.3f; });
  add([](Request& r) { r.sampling.frequency_penalty = 0.4f, r.sampling.penalty_window = 8; });
  add([](Request& r) { r.sampling.logit_bias = {{5, 3.0f}, {6, -3.0f}}; });
  add([](Request& r) { r.logprobs = 3; });
  add([](Request& r) { r.logprobs = 0, r.sampling.temperature = 0.8f; });
  add([](Request& r) { r.ignore_eos = false, r.sampling.temperature = 0.4f; });
  add([](Request& r) { r.max_tokens = 2; });
  add([](Request& r) { r.max_tokens = -1; });  // until the context is full
  add([](Request& r) { r.special = true, r.sampling.temperature = 0.8f, r.max_tokens = -1; });
  add([&](Request& r) { r.stop = {read(*plain.submit(r).value()).text.substr(20, 4)}; });
  add([](Request& r) {
    r.grammar = Grammar::from_gbnf(R"(root ::= ("AB" | "CD" [0-9]+ ",")+ "END")").value();
    r.ignore_eos = false;
  });
  add([](Request& r) {
    r.grammar = Grammar::from_gbnf(R"(root ::= [A-Z ]+ ".")").value();
    r.sampling.temperature = 0.8f;
    r.ignore_eos = false;
  });
  for (size_t i = 0, n = all.size(); i < n; ++i) {
    Request predicted = all[i];
    predicted.prediction = read(*plain.submit(all[i]).value()).tokens;
    for (size_t at = 7; at < predicted.prediction.size(); at += 11)
      predicted.prediction[at] ^= 1;  // and some of it wrongly
    all.push_back(std::move(predicted));
  }
  return all;
}

uint64_t sum(std::span<const uint64_t> counts) { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }

struct Kind {
  std::string family;
  KvType kv_type;
};

class Speculation : public testing::TestWithParam<Kind> {};

TEST_P(Speculation, ChangesNoTokenOfAnyAnswer) {
  const auto& [family, kv_type] = GetParam();
  const auto plain = make_engine(family, {.kv_type = kv_type, .drafts_max = 0});
  const std::vector<Request> all = requests(*plain);
  std::vector<Told> wanted;
  for (const Request& each : all) wanted.push_back(read(*plain->submit(each).value()));
  EXPECT_EQ(sum(plain->stats().drafted_tokens), 0u);
  for (const int drafts_max : {-1, 1, 2, 3, 7, kDraftMax})
    for (const int parallel : {1, 3}) {
      const auto engine = make_engine(family, {.parallel = parallel, .kv_type = kv_type, .drafts_max = drafts_max});
      std::vector<std::unique_ptr<Stream>> streams;
      for (const Request& each : all) streams.push_back(engine->submit(each).value());
      for (size_t i = 0; i < streams.size(); ++i)
        EXPECT_EQ(read(*streams[i]), wanted[i])
            << "request " << i << ", drafts " << drafts_max << ", at once " << parallel;
      const EngineStats stats = engine->stats();
      const uint64_t drafted = sum(stats.drafted_tokens), accepted = sum(stats.accepted_tokens);
      if (family == "lfm2") {
        EXPECT_EQ(drafted, 0u) << "its state could not be taken back";
      } else if (drafts_max > 0) {
        EXPECT_GT(accepted, 100u);
        EXPECT_GT(drafted, accepted + 20) << "guesses that are wrong are part of the test";
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Speculation,
                         testing::Values(Kind{"llama", KvType::kF16}, Kind{"llama", KvType::kI8},
                                         Kind{"llama", KvType::kI4}, Kind{"gemma3", KvType::kF16},
                                         Kind{"qwen3", KvType::kI8}, Kind{"mixtral", KvType::kF16},
                                         Kind{"lfm2", KvType::kF16}),
                         [](const auto& kind) {
                           return kind.param.family + "_" + std::string(name(kind.param.kv_type));
                         });

TEST(EngineSpeculation, ThreadsAndGuessesTogetherChangeNothing) {
  const auto plain = make_engine("llama", {.drafts_max = 0}, 1);
  const auto engine = make_engine("llama", {.drafts_max = 5}, 3);
  for (const Request& each : requests(*plain))
    EXPECT_EQ(read(*engine->submit(each).value()), read(*plain->submit(each).value()));
}

TEST(EngineSpeculation, AConversationGoesOnFromAGuessedAnswer) {
  const auto plain = make_engine("llama", {.drafts_max = 0}), engine = make_engine("llama", {.drafts_max = 7});
  Request first = requests(*plain).front();
  first.max_tokens = 50;
  Request next = first;
  for (Engine* each : {plain.get(), engine.get()}) {
    next.prompt = first.prompt;
    for (const Token token : read(*each->submit(first).value()).tokens) next.prompt.push_back(token);
  }
  Usage usage;
  const Told told = read(*engine->submit(next).value(), &usage);
  EXPECT_EQ(told, read(*plain->submit(next).value()));
  EXPECT_EQ(usage.cached_tokens, static_cast<int>(next.prompt.size()) - 1)
      << "what was guessed rightly is state like any other";
}

TEST(EngineSpeculation, WhatARequestForbidsIsNotGuessedAndUsageSaysWhatWas) {
  const auto engine = make_engine("llama", {.drafts_max = 6});
  Request request = requests(*engine).front();
  const Told wanted = read(*engine->submit(request).value());
  Usage usage;
  request.prediction = wanted.tokens;
  EXPECT_EQ(read(*engine->submit(request).value(), &usage), wanted);
  EXPECT_GT(usage.accepted_tokens, 30);
  EXPECT_GE(usage.drafted_tokens, usage.accepted_tokens);
  request.drafts_max = 0;
  EXPECT_EQ(read(*engine->submit(request).value(), &usage), wanted);
  EXPECT_EQ(usage.drafted_tokens, 0);
  request.drafts_max = 1;
  EXPECT_EQ(read(*engine->submit(request).value(), &usage), wanted);
  EXPECT_LE(usage.drafted_tokens, usage.completion_tokens);
}

TEST(EngineSpeculation, EarlierAnswersAreGuessedFromButNotAcrossTenants) {
  const auto engine = make_engine("gemma3", {.drafts_max = 4});
  Request request;
  request.max_tokens = 40;
  request.ignore_eos = true;
  request.sampling.temperature = 1.0f;
  request.prompt = {3, 4, 5, 6, 7};
  request.tenant = "a";
  const Told wanted = read(*engine->submit(request).value());
  const auto from_answers = [&] { return engine->stats().accepted_tokens[static_cast<size_t>(DraftSource::kAnswers)]; };
  const uint64_t before = from_answers();
  request.tenant = "b";
  EXPECT_EQ(read(*engine->submit(request).value()), wanted);
  EXPECT_EQ(from_answers(), before) << "nobody learns from the speed of an answer what others were told";
  request.tenant = "a";
  EXPECT_EQ(read(*engine->submit(request).value()), wanted);
  EXPECT_GT(from_answers(), before + 20);
}

// One that says the same as the model, and one that says something else.
TEST(EngineSpeculation, ADraftModelChangesNoToken) {
  const auto plain = make_engine("llama", {.drafts_max = 0});
  const std::vector<Request> all = requests(*plain);
  for (const std::string family : {"llama", "llama-linear"})
    for (const int drafts_max : {-1, 4}) {
      Model model = load("llama", make_backend());
      Model draft = load(family, model.backend);
      const auto engine = Engine::create(std::move(model), {.drafts_max = drafts_max}, std::move(draft)).value();
      for (size_t i = 0; i < all.size(); ++i)
        EXPECT_EQ(read(*engine->submit(all[i]).value()), read(*plain->submit(all[i]).value()))
            << family << ", request " << i;
      const EngineStats stats = engine->stats();
      const auto model_source = static_cast<size_t>(DraftSource::kModel);
      const uint64_t drafted = stats.drafted_tokens[model_source], accepted = stats.accepted_tokens[model_source];
      if (drafts_max < 0) continue;  // whether it pays is the machine's business
      EXPECT_GT(drafted, 100u);
      if (family == "llama")
        EXPECT_GT(accepted, drafted / 2) << "drawn tokens are guessed with the same draws";
      else
        EXPECT_LT(accepted, drafted / 2);
    }
}

TEST(EngineSpeculation, DraftModelsThatCannotDraftAreRefused) {
  const auto refused = [](Model draft) {
    Model model = load("llama", make_backend());
    return message(Engine::create(std::move(model), {}, std::move(draft)));
  };
  EXPECT_NE(refused(load("llama", make_backend(), 100)).find("context is 100"), std::string::npos);
  EXPECT_NE(refused(load("lfm2", make_backend())).find("recurrent"), std::string::npos);
  // The same model, but one of its tokens is called otherwise.
  const TestFolder folder;
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(kGoldenFolder / "llama" / file, folder.path() / file);
  std::string tokenizer = golden_text(kGoldenFolder / "llama/tokenizer.json");
  const size_t at = tokenizer.find("\"Q\":");
  ASSERT_NE(at, std::string::npos);
  std::ofstream(folder.path() / "tokenizer.json") << tokenizer.replace(at, 3, "\"q\"");
  const std::string other =
      refused(load_model(folder.path(), make_backend(), {.context = kContext, .rows_max = 0, .progress = {}}).value());
  EXPECT_NE(other.find("another vocabulary"), std::string::npos) << other;
  EXPECT_NE(other.find("is \"q\" and \"Q\""), std::string::npos) << other;
}

TEST(EngineSpeculation, OptionsAreChecked) {
  for (const int drafts_max : {-2, kDraftMax + 1}) {
    EXPECT_EQ(Engine::create(load("llama", make_backend()), {.drafts_max = drafts_max}).error().code,
              Code::kInvalidArgument);
  }
  const auto engine = make_engine("llama", {});
  Request request;
  request.prompt = {1, 2};
  request.prediction = {1, 1 << 30};
  EXPECT_EQ(engine->submit(request).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace hearth
