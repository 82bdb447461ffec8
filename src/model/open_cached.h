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

// A pack is found by what it was made from and by what reads it, which is this.
std::string pack_layout();
// The pack at a place in the cache, if it is whole and of that source.
Result<Checkpoint> open_pack_of(const std::filesystem::path& place, std::string_view source_digest);

}  // namespace hearth
