#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "store/known_models.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string name;
  bool json = false;
};

Result<void> show(const Options& options) {
  const Store store = TRY(open_store());
  const Manifest model = TRY(store.find(options.name));
  if (options.json) {
    fmt::print("{}\n", to_json(model));
    return {};
  }
  fmt::print("name     {}\n", model.name);
  if (const KnownModel* known = find_known_model(model.name)) {
    fmt::print("alias    {} ({})\nlicence  {}\n", known->alias, known->about, known->licence);
  }
  fmt::print("source   {}\nadded    {}\nfolder   {}\nsize     {}\n", model.source, model.added,
             store.folder(model.name).string(), human_bytes(model.bytes()));
  for (const ManifestFile& file : model.files) {
    fmt::print("file     {}  {} bytes  sha256 {}\n", file.name, file.bytes, file.sha256);
  }
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("name", options->name, "Name or alias of a model in the store")->required();
  app.add_flag("--json", options->json, "Print the manifest as JSON");
  return [options] { return show(*options); };
}

}  // namespace

extern const Command kShow;
const Command kShow{"show", "show where a model came from and what it consists of",
                    "  hearth show default\n  hearth show default --json", declare};

}  // namespace hearth::cli
