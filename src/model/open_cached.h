// A model by way of the cache of packs.
#pragma once

#include <filesystem>
#include <optional>

#include "model/model.h"

namespace hearth {

// The pack of the model at `path`, made first if it is not there or damaged, or if `anew`. Empty, with a warning in the log, if
// none can be kept; empty without one if `path` is a pack itself. Errors are the model's own.
Result<std::optional<Checkpoint>> open_cached(const std::filesystem::path& path, Backend& backend,
                                              const PackOptions& packs, bool anew);

}  // namespace hearth
