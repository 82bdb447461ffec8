#include "compress/quantize.h"

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <random>

#include "base/limits.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "compress/type_plan.h"
#include "compress/write_model.h"
#include "model/model.h"
#include "store/sha256.h"

namespace hearth::cli {
namespace {

constexpr size_t kChunkTokens = 512;

struct Options {
  ModelOptions model;
  std::string out, type = "i4", head_type, calibrate, format;
  std::vector<std::string> keep;
  int chunks = 64, judged = 4;
  uint64_t seed = 1;
  double damping = 0.01;
  bool dry_run = false, json = false;
};

Result<const TypeInfo*> type_named(std::string_view option, std::string_view name) {
  if (const TypeInfo* type = find_type(name)) return type;
  std::string names;
  for (const TypeInfo& type : all_types()) names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  return fail(Code::kInvalidArgument, "{} {}: no such type; there are {}", option, name, names);
}

// Chunks of the text, all of one length, in an order that the seed gives: the first are for calibration, the last for judging.
Result<void> take_chunks(const Options& options, const Checkpoint& checkpoint, compress::QuantizeOptions& out) {
  if (options.calibrate.empty()) return {};
  const TextSide text = TRY(load_text(checkpoint));
  const std::string content = TRY(read_file(options.calibrate, limits::kPromptBytes));
  const std::vector<Token> tokens = text.tokenizer->encode(content, {.parse_special = false, .add_bos = false});
  const size_t n = tokens.size() / kChunkTokens;
  if (n < 2)
    return fail(Code::kInvalidArgument, "--calibrate {}: {} tokens; at least {} are needed, {} are usual",
                options.calibrate, tokens.size(), 2 * kChunkTokens, 68 * kChunkTokens);
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = i;
  std::mt19937_64 random(options.seed);
  for (size_t i = n - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  const size_t judged = std::min<size_t>(static_cast<size_t>(options.judged), n / 4 + 1);
  const size_t calibration = std::min<size_t>(static_cast<size_t>(options.chunks), n - judged);
  const bool bos = text.tokenizer->data().add_bos && text.tokenizer->data().bos != kNoToken;
  for (size_t i = 0; i < calibration + judged; ++i) {
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(order[i] * kChunkTokens);
    std::vector<Token> chunk(begin, begin + static_cast<ptrdiff_t>(kChunkTokens));
    if (bos) chunk.front() = text.tokenizer->data().bos;
    (i < calibration ? out.calibration : out.judged).push_back(std::move(chunk));
  }
  return {};
}

Result<void> quantize(Options& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const compress::SourceModel source = TRY(compress::SourceModel::open(path, *backend));
  const TypeInfo* type = TRY(type_named("--type", options.type));
  const TypeInfo* head = options.head_type.empty() ? &compress::usual_head_type(source, *type)
                                                   : TRY(type_named("--head-type", options.head_type));
  const compress::TypePlan plan = compress::uniform_plan(source, *type, *head, options.keep);
  TRY(compress::check(source, plan));
  compress::QuantizeOptions work;
  work.n_threads = options.model.n_threads > 0 ? options.model.n_threads : TRY(thread_count_from_environment());
  work.damping = static_cast<float>(options.damping);
  TRY(take_chunks(options, source.checkpoint(), work));
  ProgressLine progress("quantising");
  work.progress = [&](std::string_view what, double share) {
    progress.note(fmt::format("{} {:.0f} %", what, 100 * share));
    return true;
  };
  const compress::Quantized result = TRY(compress::quantize(source, plan, *backend, work));
  for (const auto& o : result.outcomes)
    fmt::print(stderr, "{:30} {:8} {:.6f}\n", o.name, info(o.type).name, o.relative_error);
  if (options.format == "gguf" || (options.format.empty() && options.out.ends_with(".gguf"))) {
    TRY(compress::write_gguf(source, result.tensors, options.out));
  } else {
    const std::string hex = TRY(sha256_of_file(path));
    const Digest digest = TRY(digest_from_hex(hex));
    TRY(compress::write_pack(source, result.tensors, digest, *backend, work.n_threads, options.out));
  }
  if (result.divergence.rows() > 0)
    fmt::print(stderr, "mean KLD {:.6f}, 99.9 % {:.6f}, same top {:.3f} %\n", result.divergence.mean(),
               result.divergence.percentile(0.999), 100 * result.divergence.same_top());
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("IN", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")->required();
  app.add_option("OUT", options->out, "The file to write")->required();
  app.add_option("--type", options->type, "Type of the matrices")->capture_default_str();
  app.add_option("--head-type", options->head_type, "Type of the matrix that gives the logits");
  app.add_option("--calibrate", options->calibrate, "A text like what the model will read");
  app.add_option("--chunks", options->chunks, "Chunks of 512 tokens of it that are used")->capture_default_str();
  app.add_option("--format", options->format, "pack or gguf (default: by OUT's ending)");
  app.add_option("--keep", options->keep, "A tensor that stays as it is; several times");
  app.add_option("--damping", options->damping, "Trust in rare inputs: less with more")->capture_default_str();
  app.add_option("--seed", options->seed, "Which chunks of the text")->capture_default_str();
  app.add_option("--threads,-t", options->model.n_threads, "Threads")->check(CLI::Range(1, 1024));
  return [options] { return quantize(*options); };
}

}  // namespace

extern const Command kQuantize;
const Command kQuantize{"quantize", "make a model smaller: fewer bits per weight, chosen for least harm",
                        "  hearth quantize big.gguf small.gguf --type q4_0 --calibrate text.txt\n", declare};

}  // namespace hearth::cli
