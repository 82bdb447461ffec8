#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.h"
#include "cli/settings.h"
#include "model/model.h"

namespace hearth::cli {
namespace {

Result<void> remove(const std::string& name) {
  const Store store = TRY(open_store());
  // The pack goes by the digest of what it was made from, so that is asked for first.
  const auto cache = open_cache(store);
  const auto path = store.resolve(name);
  const auto files = path ? source_files(*path) : std::unexpected(path.error());
  const auto digest = cache && files ? cache->source_digest(*files, {}) : fail(Code::kNotFound, "no pack");
  TRY(store.remove(name));
  if (digest) cache->remove(*digest);
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
const Command kRm{"rm", "delete a model from the store, and its pack", "  hearth rm smollm2-135m-instruct", declare};

}  // namespace hearth::cli
