// Quality on a text, computed as llama-perplexity does so that figures compare: the text in chunks of `context` tokens, each from
// nothing (its first token replaced by BOS where the model wants one), and the second half of each chunk counts. With
// --reference also the Kullback-Leibler divergence of each distribution from the reference model's.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstdio>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/progress_line.h"
#include "compress/divergence.h"
#include "model/sequence.h"

namespace hearth::cli {
namespace {

struct EvalOptions {
  ModelOptions model;
  std::string text, reference;
  int chunks = -1;
  bool json = false;
};

// One model and the sequence it works on; chunks run in steps, whose logits are asked for a few rows at a time.
class Evaluated {
 public:
  static Result<Evaluated> create(const ModelOptions& options) {
    Model model = TRY(load(options));
    const int context = model.decoder->context();
    const KvType kv_type = TRY(kv_type_for(model, options));
    auto store = TRY(SequenceStore::create(*model.backend, model.decoder->config(),
                                           {.kv_type = kv_type, .positions_max = context, .sequences_max = 1}));
    const SequenceId id = TRY(store->open());
    return Evaluated(std::move(model), std::move(store), id);
  }

  void restart() { store_->truncate(id_, 0); }
  Result<void> run(std::span<const Token> tokens) {
    const int count = static_cast<int>(tokens.size());
    TRY(store_->reserve(id_, count));
    const SequenceRows rows = store_->rows(id_, 0, count);
    model_.decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, *store_);
    store_->advance(id_, count);
    return {};
  }
  // Log-probabilities of one row of the last run.
  std::span<const float> log_probabilities(int row) {
    logits_.resize(static_cast<size_t>(model_.decoder->config().n_vocab));
    const int32_t wanted = row;
    model_.decoder->logits({&wanted, 1}, logits_);
    compress::log_softmax(logits_);
    return logits_;
  }
  [[nodiscard]] const Model& model() const { return model_; }

 private:
  Evaluated(Model model, std::unique_ptr<SequenceStore> store, SequenceId id)
      : model_(std::move(model)), store_(std::move(store)), id_(id) {}
  Model model_;
  std::unique_ptr<SequenceStore> store_;
  SequenceId id_;
  std::vector<float> logits_;
};

struct Totals {
  int64_t count = 0;
  double nll = 0.0, nll_squared = 0.0;
  compress::Divergence divergence;

  void add(std::span<const float> ours, Token next) {
    const double loss = -ours[static_cast<size_t>(next)];
    nll += loss;
    nll_squared += loss * loss;
    ++count;
  }
  [[nodiscard]] double perplexity() const { return std::exp(nll / static_cast<double>(count)); }
  // Standard error of the perplexity, from the spread of the losses.
  [[nodiscard]] double error() const {
    const auto n = static_cast<double>(count);
    const double mean = nll / n, variance = nll_squared / n - mean * mean;
    return n > 1 ? perplexity() * std::sqrt(std::max(0.0, variance) / (n - 1)) : 0.0;
  }
};

// Both models step through a chunk side by side, so no more than one row of logits of each is held.
Result<void> eval_chunk(Evaluated& ours, Evaluated* reference, std::span<const Token> chunk, Totals& totals) {
  ours.restart();
  if (reference) reference->restart();
  const int first = static_cast<int>(chunk.size()) / 2;
  int step = ours.model().decoder->rows_max();
  if (reference) step = std::min(step, reference->model().decoder->rows_max());
  for (int done = 0; done < static_cast<int>(chunk.size()); done += step) {
    const auto part =
        chunk.subspan(static_cast<size_t>(done),
                      std::min<size_t>(static_cast<size_t>(step), chunk.size() - static_cast<size_t>(done)));
    TRY(ours.run(part));
    if (reference) TRY(reference->run(part));
    for (int row = std::max(0, first - done);
         row < static_cast<int>(part.size()) && done + row + 1 < static_cast<int>(chunk.size()); ++row) {
      const auto probabilities = ours.log_probabilities(row);
      totals.add(probabilities, chunk[static_cast<size_t>(done + row + 1)]);
      if (reference) totals.divergence.add(probabilities, reference->log_probabilities(row));
    }
  }
  return {};
}

void print(const EvalOptions& options, const Totals& totals, int chunks) {
  const compress::Divergence& divergence = totals.divergence;
  if (options.json) {
    boost::json::object out{{"perplexity", totals.perplexity()},
                            {"perplexity_error", totals.error()},
                            {"chunks", chunks},
                            {"tokens", totals.count}};
    if (!options.reference.empty()) {
      out["mean_kld"] = divergence.mean();
      out["kld_p999"] = divergence.percentile(0.999);
      out["same_top"] = divergence.same_top();
    }
    fmt::print("{}\n", boost::json::serialize(out));
    return;
  }
  fmt::print("perplexity {:.4f} +- {:.4f} over {} tokens of {} chunks\n", totals.perplexity(), totals.error(),
             totals.count, chunks);
  if (!options.reference.empty())
    fmt::print("against {}: mean KLD {:.6f}, 99.9 % {:.6f}, same top token {:.3f} %\n", options.reference,
               divergence.mean(), divergence.percentile(0.999), 100.0 * divergence.same_top());
}

Result<void> eval(EvalOptions& options) {
  if (options.model.context == 0) options.model.context = 512;
  const std::string text = TRY(read_file(options.text, limits::kPromptBytes));
  Evaluated ours = TRY(Evaluated::create(options.model));
  std::optional<Evaluated> reference;
  if (!options.reference.empty()) {
    ModelOptions other = options.model;
    other.model = options.reference;
    other.precision = "8";
    other.experts = 0;
    other.kv_type = "f16";
    reference.emplace(TRY(Evaluated::create(other)));
    const int a = ours.model().decoder->config().n_vocab, b = reference->model().decoder->config().n_vocab;
    if (a != b)
      return fail(Code::kInvalidArgument,
                  "the vocabularies have {} and {} tokens; a reference must be of the same model", a, b);
  }
  const Tokenizer& tokenizer = *ours.model().text.tokenizer;
  const std::vector<Token> tokens = tokenizer.encode(text, {.parse_special = false, .add_bos = true});
  const auto context = static_cast<size_t>(options.model.context);
  int chunks = static_cast<int>(tokens.size() / context);
  if (options.chunks > 0) chunks = std::min(chunks, options.chunks);
  if (chunks == 0)
    return fail(Code::kInvalidArgument, "{}: {} tokens do not fill one chunk of {}", options.text, tokens.size(),
                context);
  Totals totals;
  ProgressLine progress("evaluating");
  for (int i = 0; i < chunks; ++i) {
    std::vector<Token> chunk(tokens.begin() + static_cast<ptrdiff_t>(i * context),
                             tokens.begin() + static_cast<ptrdiff_t>((i + 1) * context));
    if (tokenizer.data().add_bos && tokenizer.data().bos != kNoToken) chunk.front() = tokenizer.data().bos;
    TRY(eval_chunk(ours, reference ? &*reference : nullptr, chunk, totals));
    progress.note(fmt::format("[{}/{}] perplexity {:.4f}", i + 1, chunks, totals.perplexity()));
  }
  print(options, totals, chunks);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  app.add_option("MODEL", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")
      ->required();
  declare_model_options(app, options->model);
  declare_memory_option(app, options->model);
  app.add_option("--text", options->text, "The text")->required();
  app.add_option("--chunks", options->chunks, "Chunks at most (default: all the text has)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--reference", options->reference,
                 "A model to compare with, usually the same one in full precision; its keys and values are in f16");
  app.add_flag("--json", options->json, "Print JSON: {perplexity, mean_kld, kld_p999, same_top}");
  return [options] { return eval(*options); };
}

}  // namespace

extern const Command kEval;
const Command kEval{"eval", "measure quality on a text: perplexity, divergence from a reference",
                    "  hearth eval tiny --text book.txt --context 512 --chunks 20\n"
                    "  hearth eval small.gguf --reference full.gguf --text book.txt --json",
                    declare};

}  // namespace hearth::cli
