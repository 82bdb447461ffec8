// Speed, measured as peers measure it, so that ratios compare: pp = a prompt of N tokens from nothing, tg = N single steps, each with
// its most likely token, @D after D tokens of context, xB with B sequences at once (total rate). rows M: steps of M rows of one
// sequence, as they check guessed tokens; M times what one row gives would be rows that cost nothing.
#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>
#include <thread>

#include "base/topology.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/power_options.h"
#include "model/sequence.h"

namespace hearth::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  ModelOptions model;
  PowerOptions power;
  int prompt = 512, gen = 128, depth = 0, repeat = 3;
  std::vector<int> batch{1}, rows;
  bool json = false;
};

struct Measured {
  std::string test;
  std::vector<double> tokens_per_second;
  [[nodiscard]] double mean() const {
    double sum = 0;
    for (const double rate : tokens_per_second) sum += rate;
    return sum / static_cast<double>(tokens_per_second.size());
  }
};

class Bench {
 public:
  Bench(const Model& model, SequenceStore& store, Pacer& pacer)
      : model_(model), store_(store), pacer_(pacer), logits_(static_cast<size_t>(model.decoder->config().n_vocab)) {}

  // A prompt of `count` tokens for one sequence; logits of the last row if wanted.
  Result<void> prefill(SequenceId id, int count, bool want_logits) {
    while (count > 0) {
      const int chunk = std::min(count, model_.decoder->rows_max());
      std::vector<Token> tokens(static_cast<size_t>(chunk));
      for (Token& token : tokens) token = random_token();
      TRY(store_.reserve(id, chunk));
      const SequenceRows rows = store_.rows(id, 0, chunk);
      model_.decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, store_);
      store_.advance(id, chunk);
      count -= chunk;
      const int32_t last = chunk - 1;
      if (count == 0 && want_logits) model_.decoder->logits({&last, 1}, logits_);
      keep_pace(chunk, 0);
    }
    return {};
  }

  // `steps` steps of one token for each sequence.
  Result<void> generate(std::span<const SequenceId> ids, int steps) {
    std::vector<Token> tokens(ids.size()), best(ids.size());
    std::vector<float> best_logits(ids.size());
    std::vector<SequenceRows> rows(ids.size());
    std::vector<int32_t> wanted(ids.size());
    std::iota(wanted.begin(), wanted.end(), 0);
    for (int step = 0; step < steps; ++step) {
      for (size_t i = 0; i < ids.size(); ++i) {
        tokens[i] = random_token();
        TRY(store_.reserve(ids[i], 1));
        rows[i] = store_.rows(ids[i], static_cast<int>(i), 1);
      }
      model_.decoder->run({.tokens = tokens, .sequences = rows}, store_);
      for (const SequenceId id : ids) store_.advance(id, 1);
      model_.decoder->most_likely(wanted, 1, best, best_logits);
      keep_pace(0, static_cast<int>(ids.size()));
    }
    return {};
  }

  // `steps` steps of `rows` rows of one sequence, all of which want output and all but one of which are taken back.
  Result<void> check(SequenceId id, int rows, int steps) {
    const auto n = static_cast<size_t>(rows);
    std::vector<Token> tokens(n), best(n);
    std::vector<float> best_logits(n);
    std::vector<int32_t> wanted(n);
    std::iota(wanted.begin(), wanted.end(), 0);
    for (int step = 0; step < steps; ++step) {
      for (Token& token : tokens) token = random_token();
      TRY(store_.reserve(id, rows));
      const SequenceRows sequence = store_.rows(id, 0, rows);
      model_.decoder->run({.tokens = tokens, .sequences = {&sequence, 1}}, store_);
      store_.advance(id, 1);
      model_.decoder->most_likely(wanted, 1, best, best_logits);
    }
    return {};
  }

  // Tokens per second of `steps` tokens for each of `n` sequences after `depth` tokens of context; steps 0: of a prompt.
  // Of `rows` rows for one: all of them count.
  Result<double> measure(int n, int depth, int prompt, int steps, int rows = 0) {
    TRY(pacer_.admit({}));
    std::vector<SequenceId> ids;
    for (int i = 0; i < n; ++i) ids.push_back(TRY(store_.open()));
    auto result = [&]() -> Result<double> {
      for (const SequenceId id : ids) TRY(prefill(id, depth, false));
      const auto begun = Clock::now();
      if (steps == 0)
        TRY(prefill(ids.front(), prompt, true));
      else if (rows > 0)
        TRY(check(ids.front(), rows, steps));
      else
        TRY(generate(ids, steps));
      const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
      return (steps == 0 ? prompt : steps * std::max(n, rows)) / seconds;
    }();
    for (const SequenceId id : ids) store_.release(id);
    return result;
  }

 private:
  void keep_pace(int prompt_rows, int decode_rows) {
    const Pacing pacing = pacer_.step_done({.prompt = prompt_rows, .decode = decode_rows});
    model_.backend->use_threads(pacing.threads);
    if (pacing.pause_seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pacing.pause_seconds));
  }
  Token random_token() { return static_cast<Token>(random_() % logits_.size()); }

  const Model& model_;
  SequenceStore& store_;
  Pacer& pacer_;
  std::vector<float> logits_;
  std::mt19937 random_{1};
};

void print_json(const BenchOptions& options, std::span<const Measured> results, const Model& model,
                double load_seconds) {
  boost::json::array rows;
  for (const Measured& each : results)
    rows.push_back({{"test", each.test},
                    {"tokens_per_second", each.mean()},
                    {"runs", boost::json::value_from(each.tokens_per_second)}});
  const boost::json::object out{{"model", options.model.model},
                                {"backend", model.backend->describe()},
                                {"precision", model.decoder->precision()},
                                {"results", rows},
                                {"weight_bytes", model.decoder->weight_bytes()},
                                {"peak_rss_bytes", peak_rss_bytes()},
                                {"load_seconds", load_seconds}};
  fmt::print("{}\n", boost::json::serialize(out));
}

Result<void> bench(BenchOptions& options) {
  int n_most = 1;
  for (const int n : options.batch) n_most = std::max(n_most, n);
  constexpr int kRowsRoom = 32;  // for rows that are taken back
  const int need = options.depth + std::max(options.prompt, options.gen) + (options.rows.empty() ? 0 : kRowsRoom);
  if (options.model.context == 0) options.model.context = need;
  keep_on(fast_cores(), options.model.n_threads);
  const auto begun = Clock::now();
  const Model model = TRY(load(options.model));
  const double load_seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  const KvType kv_type = TRY(kv_type_for(model, options.model));
  const auto store =
      TRY(SequenceStore::create(*model.backend, model.decoder->config(),
                                {.kv_type = kv_type, .positions_max = need * n_most, .sequences_max = n_most}));
  const auto pacer = make_pacer(TRY(start_governor(options.power, options.model.n_threads)));
  Bench bench(model, *store, *pacer);
  const std::string at = options.depth > 0 ? fmt::format("@{}", options.depth) : "";
  std::vector<Measured> results;
  auto measure = [&](std::string test, int n, int prompt, int steps, int rows = 0) -> Result<void> {
    Measured measured{std::move(test), {}};
    for (int run = 0; run < options.repeat; ++run)
      measured.tokens_per_second.push_back(TRY(bench.measure(n, options.depth, prompt, steps, rows)));
    if (!options.json) fmt::print("{:16} {:10.2f} tokens/s\n", measured.test, measured.mean());
    std::fflush(stdout);
    results.push_back(std::move(measured));
    return {};
  };
  TRY(bench.measure(1, 0, std::min(need, 16), 0));  // touches all weights once
  if (options.prompt > 0) TRY(measure(fmt::format("pp{}{}", options.prompt, at), 1, options.prompt, 0));
  for (const int n : options.batch)
    if (options.gen > 0)
      TRY(measure(n == 1 ? fmt::format("tg{}{}", options.gen, at) : fmt::format("tg{}x{}{}", options.gen, n, at), n, 0,
                  options.gen));
  for (const int rows : options.rows)
    TRY(measure(fmt::format("rows{}{}", rows, at), 1, 0, std::max(1, options.gen), rows));
  if (options.json)
    print_json(options, results, model, load_seconds);
  else
    fmt::print(stderr, "{}; weights {}, peak memory {}, loaded in {:.2f} s\n", model.backend->describe(),
               human_memory(static_cast<uint64_t>(model.decoder->weight_bytes())), human_memory(peak_rss_bytes()),
               load_seconds);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  app.add_option("MODEL", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")
      ->required();
  declare_model_options(app, options->model);
  declare_memory_option(app, options->model);
  declare_power_options(app, options->power);
  app.add_option("--prompt", options->prompt, "Tokens of the prompt; 0: leave it out")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--gen", options->gen, "Tokens to generate; 0: leave it out")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--depth", options->depth, "Tokens of context before")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--batch", options->batch, "Sequences at once, for instance 1,2,4,8")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  app.add_option("--rows", options->rows,
                 "Rows of one sequence in a step, for instance 1,2,4,8: what guessing tokens costs")
      ->delimiter(',')
      ->check(CLI::Range(1, 32));
  app.add_option("--repeat", options->repeat, "Runs of each test")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--json", options->json,
               "Print JSON: {results: [{test, tokens_per_second}], peak_rss_bytes, load_seconds}");
  return [options] { return bench(*options); };
}

}  // namespace

extern const Command kBench;
const Command kBench{"bench", "measure speed",
                     "  hearth bench tiny\n"
                     "  hearth bench default --prompt 512 --gen 64 --depth 4096 --json\n"
                     "  hearth bench tiny --batch 1,2,4,8",
                     declare};

}  // namespace hearth::cli
