#include "compress/sparsity.h"

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
#include "compress/text_chunks.h"
#include "model/exits.h"

namespace hearth::cli {
namespace {

constexpr size_t kPieceTokens = 128;
constexpr double kBound = 0.05;

struct Options {
  ModelOptions model;
  std::string text;
  std::vector<double> shares{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7};
  int pieces = 8;
  bool json = false;
};

void print(const Options& options, const std::vector<compress::SparsityTrade>& trades) {
  double most = 0;
  boost::json::array list;
  std::vector<std::vector<std::string>> rows{
      {"LEFT OUT", "MEAN KLD", "SAME TOP", "EMPTY BLOCKS", "SAVED BY BLOCKS", "BY COLUMNS, AT BEST"}};
  const auto percent = [](double share) { return fmt::format("{:.1f} %", 100 * share); };
  for (const compress::SparsityTrade& each : trades) {
    if (each.mean_kld <= kBound) most = std::max(most, each.saved_columns);
    list.push_back({{"share", each.share},
                    {"mean_kld", each.mean_kld},
                    {"same_top", each.same_top},
                    {"empty_blocks", each.blocks},
                    {"saved_blocks", each.saved_blocks},
                    {"saved_columns", each.saved_columns}});
    rows.push_back({percent(each.share), fmt::format("{:.4f}", each.mean_kld), percent(each.same_top),
                    percent(each.blocks), percent(each.saved_blocks), percent(each.saved_columns)});
  }
  const bool useful = most >= kExitGainMin;
  if (options.json) {
    fmt::print("{}\n", boost::json::serialize(boost::json::object{{"useful", useful}, {"shares", std::move(list)}}));
    return;
  }
  fmt::print("{}{}: at a mean KLD of at most {:g} no more than {} of the weights' bytes could be left unread.\n",
             table(rows), useful ? "May be useful for this model" : "Not useful for this model", kBound, percent(most));
}

Result<void> sparsity(const Options& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const auto recorder = std::make_shared<compress::RecordingBackend>(*backend);
  const auto cache = options.model.no_cache ? std::nullopt : open_cache(store);
  int n_threads = options.model.n_threads;
  if (n_threads == 0) n_threads = TRY(thread_count_from_environment());
  const Model model = TRY(load_model(path, recorder,
                                     {.context = static_cast<int>(kPieceTokens),
                                      .rows_max = 0,
                                      .progress = {},
                                      .bits = options.model.precision == "4" ? 4 : 8},
                                     {.cache = cache ? &*cache : nullptr, .n_threads = n_threads}));
  const std::string text = TRY(read_file(options.text, limits::kPromptBytes));
  compress::Chunks pieces = compress::shuffled_chunks(*model.text.tokenizer, text, kPieceTokens, 1);
  if (pieces.empty())
    return fail(Code::kInvalidArgument, "--text {}: it does not fill a piece of {} tokens", options.text, kPieceTokens);
  pieces.resize(std::min(pieces.size(), static_cast<size_t>(options.pieces)));
  std::optional<ProgressLine> line(std::in_place, "sparsity");
  const auto begun = std::chrono::steady_clock::now();
  const auto progress = [&](double share) {
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    line->note(fmt::format("{:.0f} %{}", 100 * share,
                           share > 0 ? fmt::format(", {:.1f} % a second, about {:.0f} s left", 100 * share / took,
                                                   took * (1 - share) / share)
                                     : ""));
  };
  const auto trades = TRY(compress::measure_sparsity(model, *recorder, pieces, options.shares, n_threads, progress));
  line.reset();
  print(options, trades);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")
      ->required();
  declare_model_options(app, options->model);
  app.add_option("--text", options->text, "A text like those the model will read and write")->required();
  app.add_option("--shares", options->shares, "Shares of the activations to leave out")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  app.add_option("--pieces", options->pieces, "Pieces of 128 tokens of the text; the later half of each counts")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print JSON: {useful, shares: [{share, mean_kld, saved_columns, ...}]}");
  return [options] { return sparsity(*options); };
}

}  // namespace

extern const Command kSparsity;
const Command kSparsity{"sparsity", "measure whether small activations could be left out of a model's feed-forward",
                        "  hearth sparsity default --text book.txt\n"
                        "  hearth sparsity default --text book.txt --shares 0.2,0.4 --json",
                        declare};

}  // namespace hearth::cli
