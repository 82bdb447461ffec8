#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/settings.h"

namespace hearth::cli {
namespace {

Result<void> list(bool json) {
  const Store store = TRY(open_store());
  std::vector<Manifest> models = TRY(store.list());
  for (const OllamaStore& ollama : ollama_stores())
    for (const OllamaModel& model : ollama.list())
      models.push_back({model.name,
                        ollama.folder().string(),
                        {{model.path.filename().string(), model.bytes, model.sha256}},
                        model.modified});
  if (json) {
    std::string text;
    for (const Manifest& model : models) text += (text.empty() ? "" : ",") + to_json(model);
    fmt::print("{{\"models\":[{}]}}\n", text);
    return {};
  }
  if (models.empty()) {
    fmt::print(stderr, "No models in {} yet. Get one with: hearth pull default\n", store.root().string());
    return {};
  }
  std::vector<std::vector<std::string>> rows{{"NAME", "SIZE", "ADDED", "SOURCE"}};
  for (const Manifest& model : models) {
    rows.push_back({model.name, human_bytes(model.bytes()), model.added.substr(0, 10), model.source});
  }
  fmt::print("{}", table(rows));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "Print JSON: {\"models\":[{name, source, files, added}]}");
  return [json] { return list(*json); };
}

}  // namespace

extern const Command kList;
const Command kList{"list", "list the models in the store, and Ollama's", "  hearth list\n  hearth list --json",
                    declare};

}  // namespace hearth::cli
