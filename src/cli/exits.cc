#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "compress/exit_fit.h"
#include "compress/text_chunks.h"

namespace hearth::cli {
namespace {

constexpr size_t kPieceTokens = 256;

struct Options {
  ModelOptions model;
  std::string action, text;
  std::vector<int> layers;
  double ridge = 1e-3;
  int pieces = 64;
  uint64_t seed = 1;
  bool json = false;
};

Result<compress::ExitTexts> texts_of(const Options& options, const Model& model) {
  const std::string content = TRY(read_file(options.text, limits::kPromptBytes));
  const size_t length = std::min(kPieceTokens, static_cast<size_t>(model.decoder->context()));
  compress::Chunks chunks = compress::shuffled_chunks(*model.text.tokenizer, content, length, options.seed);
  // A quarter as many each to tune and to judge on as to fit.
  const size_t n = std::min(chunks.size(), static_cast<size_t>(options.pieces) * 3 / 2), quarter = n / 6;
  if (quarter < 2)
    return fail(Code::kInvalidArgument, "--text {}: {} pieces of {} tokens; at least 12 are needed, {} are usual",
                options.text, chunks.size(), length, options.pieces * 3 / 2);
  compress::ExitTexts texts;
  for (size_t i = 0; i < n; ++i)
    (i < quarter ? texts.judge : i < 2 * quarter ? texts.tune : texts.fit).push_back(std::move(chunks[i]));
  return texts;
}

boost::json::object to_json(const ExitBound& bound) {
  return {{"kld_max", bound.bound},
          {"layers", bound.layers},
          {"mean_kld", bound.mean_kld},
          {"same_top", bound.same_top},
          {"exited", bound.exited},
          {"saved", bound.saved},
          {"useful", bound.saved >= kExitGainMin && bound.mean_kld <= bound.bound}};
}

void print_bounds(const std::vector<ExitBound>& bounds) {
  std::vector<std::vector<std::string>> rows{
      {"BOUND", "EXIT AFTER", "TOKENS LEAVE", "BYTES SAVED", "MEAN KLD", "SAME TOP", ""}};
  for (const ExitBound& each : bounds) {
    const bool kept = each.mean_kld <= each.bound, worth = each.saved >= kExitGainMin;
    rows.push_back({fmt::format("{:g}", each.bound), fmt::format("{}", each.layers),
                    fmt::format("{:.1f} %", 100 * each.exited), fmt::format("{:.1f} %", 100 * each.saved),
                    fmt::format("{:.4f}", each.mean_kld), fmt::format("{:.1f} %", 100 * each.same_top),
                    !kept   ? "not kept"
                    : worth ? "useful"
                            : "not useful for this model"});
  }
  fmt::print("{}", table(rows));
  if (bounds.empty()) fmt::print("No exit keeps to any bound: not useful for this model.\n");
}

void print_trades(const compress::ExitReport& report) {
  std::vector<std::vector<std::string>> rows{
      {"LAYERS RUN", "LAYERS SAVED", "BYTES SAVED", "MEAN KLD", "99 %", "SAME TOP"}};
  for (const compress::ExitTrade& each : report.trades)
    rows.push_back({fmt::format("{} of {}", each.layers, report.n_layers),
                    fmt::format("{:.0f} %", 100.0 * (report.n_layers - each.layers) / report.n_layers),
                    fmt::format("{:.1f} %", 100 * each.saved), fmt::format("{:.4f}", each.mean_kld),
                    fmt::format("{:.3f}", each.kld_p99), fmt::format("{:.1f} %", 100 * each.same_top)});
  fmt::print("All tokens leave at one exit ({} tokens fitted on, {} others judged):\n{}\n", report.fit_tokens,
             report.judged_tokens, table(rows));
  fmt::print("Only tokens whose guess is not doubted leave, so that the mean divergence stays within a bound:\n");
}

boost::json::object to_json(const compress::ExitFit& fit, double seconds) {
  boost::json::array trades, bounds;
  for (const compress::ExitTrade& each : fit.report.trades)
    trades.push_back({{"layers", each.layers},
                      {"mean_kld", each.mean_kld},
                      {"kld_p99", each.kld_p99},
                      {"same_top", each.same_top},
                      {"saved", each.saved}});
  for (const ExitBound& each : fit.file.bounds) bounds.push_back(to_json(each));
  return {{"n_layers", fit.report.n_layers},
          {"fit_tokens", fit.report.fit_tokens},
          {"judged_tokens", fit.report.judged_tokens},
          {"exits", std::move(trades)},
          {"bounds", std::move(bounds)},
          {"step_ratio", fit.report.step_ratio},
          {"seconds", seconds}};
}

Result<void> fit(const Options& options, const Model& model, KvType kv_type, const std::filesystem::path& path) {
  const compress::ExitTexts texts = TRY(texts_of(options, model));
  const auto begun = std::chrono::steady_clock::now();
  const auto since = [](auto from) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  };
  compress::ExitFitOptions how{.layers = options.layers, .ridge = options.ridge, .kv_type = kv_type};
  how.n_threads = options.model.n_threads;
  if (how.n_threads == 0) how.n_threads = TRY(thread_count_from_environment());
  std::optional<ProgressLine> line(std::in_place, "exit heads");
  std::string part;
  auto phase = begun;
  how.progress = [&](std::string_view what, double share) {
    if (part != what) part = what, phase = std::chrono::steady_clock::now();
    const double took = since(phase);
    line->note(fmt::format("{} {:.0f} %{}", what, 100 * share,
                           share > 0 ? fmt::format(", {:.1f} % a second, about {:.0f} s left", 100 * share / took,
                                                   took * (1 - share) / share)
                                     : ""));
  };
  const compress::ExitFit fitted = TRY(compress::fit_exits(model, texts, how));
  line.reset();
  TRY(write_exits(fitted.file, model.decoder->config().d_model, path));
  if (options.json) {
    fmt::print("{}\n", boost::json::serialize(to_json(fitted, since(begun))));
    return {};
  }
  print_trades(fitted.report);
  print_bounds(fitted.file.bounds);
  if (fitted.report.step_ratio > 0)
    fmt::print("Single steps, measured in turns: {:.2f} times as fast.\n", fitted.report.step_ratio);
  return {};
}

Result<void> exits(const Options& options) {
  const Model model = TRY(load(options.model));
  const KvType kv_type = TRY(kv_type_for(model, options.model));
  const std::filesystem::path path = TRY(exits_path(options.model, model));
  if (options.action == "fit") {
    if (options.text.empty()) return fail(Code::kInvalidArgument, "exits fit needs a text: --text FILE");
    return fit(options, model, kv_type, path);
  }
  const ExitFile file = TRY(read_exits(path, *model.checkpoint, *model.decoder, kv_type));
  if (!options.json) {
    print_bounds(file.bounds);
    return {};
  }
  boost::json::array bounds;
  for (const ExitBound& each : file.bounds) bounds.push_back(to_json(each));
  fmt::print("{}\n",
             boost::json::serialize(boost::json::object{{"file", path.string()}, {"bounds", std::move(bounds)}}));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action, "fit: make a model's exit heads and measure them; show: what was measured")
      ->check(CLI::IsMember({"fit", "show"}))
      ->required();
  app.add_option("MODEL", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")
      ->required();
  declare_model_options(app, options->model);
  declare_exits_option(app, options->model);
  app.add_option("--text", options->text, "A text like those the model will read and write");
  app.add_option("--layers", options->layers, "Layers behind which to fit an exit: 12,16,20 (default: eight, spread)")
      ->delimiter(',');
  app.add_option("--ridge", options->ridge, "How little rare directions are trusted")
      ->check(CLI::Range(1e-9, 1e3))
      ->capture_default_str();
  app.add_option("--pieces", options->pieces,
                 "Pieces of 256 tokens of the text to fit on; half as many more are judged")
      ->check(CLI::Range(8, 4096))
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Which pieces of the text are used for what")->capture_default_str();
  app.add_flag("--json", options->json, "Print JSON: {n_layers, exits: [{layers, mean_kld, same_top, saved}], bounds}");
  return [options] { return exits(*options); };
}

}  // namespace

extern const Command kExits;
const Command kExits{"exits", "fit exit heads, so that tokens may leave a model early, and measure what that is worth",
                     "  hearth exits fit default --text book.txt\n"
                     "  hearth exits fit default --text book.txt --layers 12,16,20 --json\n"
                     "  hearth exits show default",
                     declare};

}  // namespace hearth::cli
