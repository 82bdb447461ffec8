// A model in stages answers as a whole one, also when all state is lost in between.
#include "cluster/stage.h"

#include <gtest/gtest.h>

#include <deque>

#include "cluster/chain_plan.h"
#include "engine/engine.h"
#include "model/arch/all.h"
#include "model/golden_models.h"
#include "text/grammar.h"

namespace hearth::cluster {
namespace {

constexpr int kContext = 192;

// Stages in this process; every `lose_every`-th step all of them forget what they know.
class StagesHere final : public Chain {
 public:
  StagesHere(const std::filesystem::path& path, int n_stages, int lose_every, int depth)
      : checkpoint_(open_checkpoint(path).value()),
        backend_(create_backend("cpu", {.n_threads = 1, .isa = {}}).value()),
        config_(find_family(checkpoint_).value()->configure(ModelKeys(checkpoint_)).value()),
        n_stages_(n_stages),
        lose_every_(lose_every),
        depth_(depth) {}

  const DecoderConfig& config() const override { return config_; }

  Result<void> start(const SequenceOptions& sequences, int context) override {
    for (const PlannedStage& planned : even_plan(0, config_.n_layers(), n_stages_).stages)
      stages_.push_back(TRY(
          Stage::create(checkpoint_, *backend_,
                        {.layers = planned.layers, .context = context, .rows_max = kRowsMax, .sequences = sequences})));
    return {};
  }

  int depth() const override { return depth_ > 0 ? depth_ : n_stages_; }

  // Layers run as late as can be: what happens to sequences between the two must not matter.
  Result<Ran> post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                   std::span<float> stream) override {
    posted_.push_back({{ops.begin(), ops.end()}, {rows.begin(), rows.end()}, stream});
    most_posted = std::max(most_posted, posted_.size());
    return Ran::kYes;
  }
  Result<Ran> collect() override {
    const Posted step = std::move(posted_.front());
    posted_.pop_front();
    return run(step.ops, step.rows, step.stream);
  }

  Result<Ran> run(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows, std::span<float> stream) {
    ++steps;
    std::vector<StepRows> all;
    for (const SequenceRows& part : rows) all.push_back({part.sequence, part.position, part.count});
    const auto d = static_cast<size_t>(config_.d_model);
    for (const auto& part : in_parts(all, n_stages_, kRowsMax)) {
      size_t n = 0;
      for (const StepRows& some : part) n += static_cast<size_t>(some.count);
      for (const auto& stage : stages_) TRY(stage->run(ops, part, stream.first(n * d)));
      ops = {};
      stream = stream.subspan(n * d);
    }
    if (lose_every_ == 0 || steps % lose_every_ != 0) return Ran::kYes;
    for (const auto& stage : stages_) TRY(stage->reset());
    posted_.clear();
    return Ran::kStartOver;
  }

  int steps = 0;
  size_t most_posted = 0;

 private:
  struct Posted {
    std::vector<SequenceOp> ops;
    std::vector<SequenceRows> rows;
    std::span<float> stream;
  };
  static constexpr int kRowsMax = 24;
  Checkpoint checkpoint_;
  std::unique_ptr<Backend> backend_;
  DecoderConfig config_;
  int n_stages_, lose_every_, depth_;  // 0: as many as there are stages
  std::deque<Posted> posted_;
  std::vector<std::unique_ptr<Stage>> stages_;
};

struct Told {
  std::vector<Token> tokens;
  std::vector<double> scores;
  std::vector<float> logprobs;
  bool operator==(const Told&) const = default;
};

Told read(Stream& stream) {
  Told told;
  for (Piece piece; !piece.done;) {
    piece = stream.next();
    told.tokens.insert(told.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    for (const TokenLogprob& logprob : piece.logprobs) told.logprobs.push_back(logprob.logprob);
    if (piece.done) told.scores = piece.scores;
  }
  return told;
}

// Prompts that share beginnings, a repetitive one that is guessed, one whose answer keeps to a grammar, candidates, log probabilities;
// and then the next turn of the first.
std::vector<Told> answers(const std::string& family, int n_stages, int lose_every = 0, int depth = 0) {
  const std::filesystem::path path = kGoldenFolder / family / "model.gguf";
  const auto chain = n_stages > 0 ? std::make_shared<StagesHere>(path, n_stages, lose_every, depth) : nullptr;
  DecoderOptions decoder{.context = kContext, .rows_max = 0, .progress = {}};
  if (chain) decoder.layers = LayerRange{0, 0};
  Model model = load_model(path, create_backend("cpu", {.n_threads = 1, .isa = {}}).value(), decoder).value();
  const auto engine = Engine::create(std::move(model), {.parallel = 3, .drafts_max = 4, .chain = chain}).value();
  const auto request = [&](std::string_view text, double temperature) {
    Request made;
    made.prompt = encode_prompt(*engine->model().text.tokenizer, text);
    made.sampling.temperature = static_cast<float>(temperature);
    made.sampling.seed = 7;
    made.max_tokens = 24;
    made.ignore_eos = true;
    return made;
  };
  std::vector<Request> requests{
      request("THE SEA IS WIDE AND THE SHIP IS SMALL, AND FAR IS THE LAND", 0),
      request("THE SEA IS WIDE AND THE SHIP IS SMALL, AND NEAR IS THE LAND", 0.9),
      request("1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2 3 1 2", 0),
      request("A NUMBER:", 1.2),
      request("THE SEA IS WIDE AND THE SHIP IS", 0),
      request("LOG", 0),
  };
  requests[3].ignore_eos = false;
  requests[3].grammar = Grammar::from_regex("[0-9]+,[0-9]+").value();
  requests[4].candidates = {encode_prompt(*engine->model().text.tokenizer, "SMALL"),
                            encode_prompt(*engine->model().text.tokenizer, "A BIG ONE")};
  requests[5].logprobs = 2, requests[5].prompt_logprobs = true;
  std::vector<std::unique_ptr<Stream>> streams;
  for (Request& each : requests) {
    auto stream = engine->submit(std::move(each));
    EXPECT_TRUE(stream) << stream.error().message;
    streams.push_back(std::move(stream).value());
  }
  std::vector<Told> all;
  for (const auto& stream : streams) all.push_back(read(*stream));
  Request next = request("THE SEA IS WIDE AND THE SHIP IS SMALL, AND FAR IS THE LAND", 0);
  next.prompt.insert(next.prompt.end(), all[0].tokens.begin(), all[0].tokens.end());
  all.push_back(read(*engine->submit(std::move(next)).value()));
  if (chain) {
    EXPECT_GT(chain->steps, 20);
    EXPECT_EQ(chain->most_posted, static_cast<size_t>(std::min(chain->depth(), 3)));
  }
  return all;
}

TEST(Stages, AnswerAsOneMachine) {
  for (const std::string family : {"llama", "gemma3", "lfm2", "qwen3-moe"}) {
    const auto whole = answers(family, 0);
    ASSERT_FALSE(whole[4].scores.empty());
    ASSERT_FALSE(whole[5].logprobs.empty());
    for (const int n_stages : {1, 2, 3}) EXPECT_EQ(answers(family, n_stages), whole) << family << " " << n_stages;
    EXPECT_EQ(answers(family, 2, 0, 4), whole) << family << ", more steps under way than sequences";
  }
}

TEST(Stages, AnswerTheSameWhenStateIsLostAgainAndAgain) {
  for (const std::string family : {"llama", "lfm2"})
    for (const int lose_every : {5, 7, 11})
      for (const int depth : {1, 3}) EXPECT_EQ(answers(family, 2, lose_every, depth), answers(family, 0)) << lose_every;
}

std::unique_ptr<Stage> small_stage(const Checkpoint& checkpoint, Backend& backend) {
  return Stage::create(checkpoint, backend,
                       {.layers = {0, 1},
                        .context = 64,
                        .rows_max = 8,
                        .sequences = {.kv_type = KvType::kF16, .positions_max = 64, .sequences_max = 2}})
      .value();
}

TEST(Stages, RefuseWhatCannotBe) {
  using enum SequenceOp::Kind;
  const Checkpoint checkpoint = open_checkpoint(kGoldenFolder / "llama/model.gguf").value();
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto stage = small_stage(checkpoint, *backend);
  std::vector<float> hidden(64 * 8);
  const auto refused = [&](std::vector<SequenceOp> ops, std::vector<StepRows> rows, size_t values) {
    EXPECT_TRUE(stage->reset());
    return !stage->run(ops, rows, std::span(hidden).first(values));
  };
  const size_t d = 32;
  EXPECT_FALSE(refused({{kOpen, 1, 0}}, {{1, 0, 2}}, 2 * d)) << message(stage->run({}, {}, {}));
  EXPECT_TRUE(refused({}, {{0, 0, 1}}, d)) << "a sequence that was not opened";
  EXPECT_TRUE(refused({{kOpen, 2, 0}}, {}, 0)) << "one more than there are";
  EXPECT_TRUE(refused({{kOpen, -1, 0}}, {}, 0));
  EXPECT_TRUE(refused({{kOpen, 0, 0}, {kOpen, 0, 0}}, {}, 0)) << "twice";
  EXPECT_TRUE(refused({{kOpen, 0, 0}, {kFork, 0, 0}}, {}, 0)) << "onto itself";
  EXPECT_TRUE(refused({{kOpen, 0, 0}, {kAdvance, 0, 1}}, {}, 0)) << "past what was written";
  EXPECT_TRUE(refused({{kOpen, 0, 0}, {kAdvance, 0, 2147483647}}, {}, 0));
  EXPECT_TRUE(refused({{kRelease, 0, 0}}, {}, 0));
  EXPECT_TRUE(refused({{kOpen, 0, 0}}, {{0, 0, 9}}, 9 * d)) << "more rows than a step has";
  EXPECT_TRUE(refused({{kOpen, 0, 0}}, {{0, 60, 5}}, 5 * d)) << "beyond the context";
  EXPECT_TRUE(refused({{kOpen, 0, 0}}, {{0, 2147483647, 1}}, d));
  EXPECT_TRUE(refused({{kOpen, 0, 0}}, {{0, 0, 2}}, d)) << "rows without values";
}

}  // namespace
}  // namespace hearth::cluster
