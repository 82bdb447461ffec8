#include "cli/model_catalog.h"

#include <filesystem>
#include <map>

#include "cli/settings.h"

namespace hearth::cli {

Result<std::unique_ptr<Catalog>> make_catalog(const ModelCatalogOptions& options, std::vector<std::string>& names) {
  std::vector<GivenModel> given;
  std::error_code ignored;
  for (const std::string& model : options.models) {
    const std::filesystem::path path(model);
    if (!std::filesystem::exists(path, ignored)) {
      names.push_back(model);
      continue;
    }
    given.push_back({path.extension() == ".gguf" ? path.stem().string() : path.filename().string(),
                     std::filesystem::absolute(path, ignored)});
    names.push_back(given.back().name);
  }
  std::map<std::string, std::string> aliases;
  for (const std::string& alias : options.aliases) {
    const size_t equals = alias.find('=');
    if (equals == 0 || equals == std::string::npos)
      return fail(Code::kInvalidArgument, "--alias {}: want ALIAS=MODEL", alias);
    aliases[alias.substr(0, equals)] = alias.substr(equals + 1);
  }
  auto library =
      std::make_shared<const ModelLibrary>(TRY(open_store()), std::move(given), std::move(aliases), ollama_stores());
  CatalogOptions catalog{.loader = TRY(model_loader(options.model, options.engine)),
                         .memory_bytes_max = options.memory_bytes_max,
                         .process_bytes_max = options.process_bytes_max,
                         .keep_alive = std::chrono::seconds(options.keep_alive_seconds),
                         .adapters = TRY(adapter_families(options.model))};
  return Catalog::create(std::move(library), std::move(catalog));
}

}  // namespace hearth::cli
