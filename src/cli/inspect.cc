#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/inspect_report.h"
#include "cli/settings.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string model, kv_type = "f16";
  int context = 0;
  bool json = false, tensors = false;
};

Result<void> inspect(const Options& options) {
  const KvType kv_type = TRY(parse_kv_type(options.kv_type));
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model));
  const Checkpoint checkpoint = TRY(open_checkpoint(path));
  const auto backend = TRY(create_backend("cpu", {.n_threads = 1, .isa = isa_from_environment()}));
  const InspectReport report = inspect_checkpoint(checkpoint, *backend, options.context, kv_type);
  if (options.json) {
    fmt::print("{}\n", to_json(checkpoint, report));
  } else {
    fmt::print("{}", to_text(checkpoint, report, options.tensors));
  }
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("model", options->model, "Name in the store, .gguf file, or Hugging Face folder")->required();
  app.add_option("--context", options->context,
                 "Positions to plan memory for (default: 4096, or the model's maximum if less)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--kv-type", options->kv_type, "How keys and values are kept: f16, i8 or i4")->capture_default_str();
  app.add_flag("--tensors", options->tensors, "List every tensor");
  app.add_flag("--json", options->json, "Print everything as JSON");
  return [options] { return inspect(*options); };
}

}  // namespace

extern const Command kInspect;
const Command kInspect{
    "inspect", "show what is in a model: metadata, tensors, true bits per weight, memory plan",
    "  hearth inspect default\n  hearth inspect ./model.gguf --tensors --context 8192\n  hearth inspect tiny --json",
    declare};

}  // namespace hearth::cli
