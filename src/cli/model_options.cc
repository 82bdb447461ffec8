#include "cli/model_options.h"

#include <CLI/CLI.hpp>
#include <chrono>

#include "cli/progress_line.h"
#include "cli/settings.h"

namespace hearth::cli {

void declare_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--threads,-t", options.n_threads, "Threads (default: physical cores, or HEARTH_THREADS)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--context,-c", options.context,
                 "Positions a conversation may have (default: 4096, or the model's maximum if less)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--kv-type", options.kv_type, "How keys and values are kept: f16 or i8")->capture_default_str();
  app.add_option("--backend", options.backend,
                 "What computes: cpu, or reference (slow, the definition of every result)")
      ->capture_default_str();
}

std::string short_name(const ModelOptions& options) { return std::filesystem::path(options.model).filename().string(); }

Result<std::unique_ptr<Backend>> make_backend(const ModelOptions& options) {
  const int n_threads = options.n_threads > 0 ? options.n_threads : TRY(thread_count_from_environment());
  return create_backend(options.backend, {.n_threads = n_threads, .isa = isa_from_environment()});
}

Result<Model> load(const ModelOptions& options) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(store.resolve(options.model));
  ProgressLine progress("loading " + short_name(options));
  const auto begun = std::chrono::steady_clock::now();
  auto show = [&](uint64_t done, uint64_t total) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    progress.update(done, total, static_cast<double>(done) / std::max(seconds, 1e-3));
  };
  std::unique_ptr<Backend> backend = TRY(make_backend(options));
  return load_model(path, std::move(backend), {.context = options.context, .rows_max = 0, .progress = show});
}

}  // namespace hearth::cli
