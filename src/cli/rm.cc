#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/settings.h"

namespace hearth::cli {
namespace {

Result<void> remove(const std::string& name) {
  const Store store = TRY(open_store());
  TRY(store.remove(name));
  fmt::print(stderr, "Removed {}.\n", name);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto name = std::make_shared<std::string>();
  app.add_option("name", *name, "Name or alias of the model to delete")->required();
  return [name] { return remove(*name); };
}

}  // namespace

extern const Command kRm;
const Command kRm{"rm", "delete a model from the store", "  hearth rm smollm2-135m-instruct", declare};

}  // namespace hearth::cli
