// The models that a command serves: those it is given, and those of the stores.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "engine/catalog.h"

namespace hearth::cli {

struct ModelCatalogOptions {
  std::vector<std::string> models;   // names in the store, or files
  std::vector<std::string> aliases;  // "ALIAS=MODEL"
  ModelOptions model;                // how they are loaded; its own `model` is not used
  EngineOptions engine{.parallel = 8};
  int64_t memory_bytes_max = 0;    // for all together; 0: no limit
  uint64_t process_bytes_max = 0;  // for the whole process; 0: no limit
  int keep_alive_seconds = 300;
};

// Nothing is loaded yet. `names` gets what the given models are called in requests, in their order.
Result<std::unique_ptr<Catalog>> make_catalog(const ModelCatalogOptions& options, std::vector<std::string>& names);

}  // namespace hearth::cli
