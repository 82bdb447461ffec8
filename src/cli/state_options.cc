#include "cli/state_options.h"

#include <CLI/CLI.hpp>

#include "cli/output.h"
#include "cli/serve_security.h"
#include "cli/settings.h"

namespace hearth::cli {

void declare_swap_options(CLI::App& app, SwapOptions& options) {
  app.add_option(
         "--swap,--prompt-cache", options.bytes,
         "Disk for the state of conversations, sealed: of those that memory has no room for, and of all when the "
         "program ends, for the next time: 512MiB, 4G; 0: none, and their tokens run again")
      ->capture_default_str();
  app.add_option("--swap-folder", options.folder, "Where (default: $HEARTH_HOME/serve/prompts)");
}

Result<std::shared_ptr<StateCache>> open_swap(const SwapOptions& options) {
  const uint64_t bytes = options.bytes == "0" ? 0 : TRY(parse_size("--swap", options.bytes));
  if (bytes == 0) return nullptr;
  const Key key = TRY(storage_key());
  return StateCache::open(options.folder.empty() ? serve_folder() / "prompts" : options.folder, key, bytes);
}

std::string state_digest(const ModelOptions& options, const std::filesystem::path& path, std::string otherwise) {
  const auto store = options.no_cache ? Result<Store>(fail(Code::kNotFound, "not wanted")) : open_store();
  const auto cache = store ? open_cache(*store) : std::nullopt;
  const auto files = source_files(path);
  const auto digest = cache && files ? cache->source_digest(*files, {}) : Result<std::string>(std::string());
  if (digest && !digest->empty()) return *digest;
  return otherwise.empty() ? std::filesystem::absolute(path).string() : std::move(otherwise);
}

void set_state_options(EngineOptions& engine, const Model& model, std::string digest) {
  engine.model_digest = std::move(digest);
  if (model.fit) engine.kv_pages_max = model.fit->kv_pages;
}

}  // namespace hearth::cli
