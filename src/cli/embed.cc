#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <memory>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/settings.h"
#include "model/encoder.h"

namespace hearth::cli {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> texts;
  std::string file;
  bool json = false;
};

// Those of the command line, then the lines of --file.
Result<std::vector<std::string>> texts_of(const Options& options) {
  std::vector<std::string> texts = options.texts;
  if (options.file.empty()) return texts;
  const std::string whole = TRY(read_file(options.file, limits::kPromptBytes));
  for (size_t at = 0; at < whole.size();) {
    const size_t end = std::min(whole.find('\n', at), whole.size());
    texts.push_back(whole.substr(at, end - at));
    at = end + 1;
  }
  return texts;
}

Result<void> embed(const Options& options) {
  const std::vector<std::string> texts = TRY(texts_of(options));
  if (texts.empty()) return fail(Code::kInvalidArgument, "no text to embed; give some, or --file");
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const std::unique_ptr<Encoder> encoder = TRY(Encoder::load(path, std::move(backend)));
  std::vector<std::vector<Token>> tokens;
  size_t n_tokens = 0;
  for (const std::string& text : texts) {
    tokens.push_back(TRY(encoder->tokens(text, true)));
    n_tokens += tokens.back().size();
  }
  const std::vector<float> values = encoder->embed(tokens);
  const auto d = static_cast<size_t>(encoder->config().d_model);
  boost::json::array embeddings;
  for (size_t first = 0; first < values.size(); first += d) {
    if (options.json) {
      embeddings.push_back(boost::json::value_from(std::span(values).subspan(first, d)));
      continue;
    }
    for (size_t i = 0; i < d; ++i) fmt::print("{}{:.7f}", i > 0 ? " " : "", values[first + i]);
    fmt::print("\n");
  }
  if (options.json)
    fmt::print("{}\n", boost::json::serialize(boost::json::object{
                           {"dimensions", d}, {"prompt_tokens", n_tokens}, {"embeddings", std::move(embeddings)}}));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model.model, "A name in the store, a folder or a .gguf file of an encoder (BERT)")
      ->required();
  app.add_option("TEXT", options->texts, "What to embed; each argument is one text");
  app.add_option("--file,-f", options->file, "Embed each line of a file, after the arguments");
  app.add_option("--threads,-t", options->model.n_threads, "Threads (default: physical cores, or HEARTH_THREADS)")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", options->json, "Print one JSON object: {dimensions, prompt_tokens, embeddings}");
  return [options] { return embed(*options); };
}

}  // namespace

extern const Command kEmbed;
const Command kEmbed{"embed", "turn texts into vectors, with an encoder",
                     "  hearth embed all-minilm-l6-v2 \"The sea is calm.\" \"A storm comes.\" --json\n"
                     "  hearth embed all-minilm-l6-v2 --file lines.txt",
                     declare};

}  // namespace hearth::cli
