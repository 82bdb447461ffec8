// A pack of which a machine has only the segments it needs: a sparse file of the whole one's size, and beside it a list of what
// of it is there and verified.
#pragma once

#include <filesystem>

#include "cluster/node.h"

namespace hearth::cluster {

// Opens the part of a model that an assignment needs (text, rope and its layers), in `folder`, after getting what is missing through
// `fetch` in pieces of at most 4 MiB. What was verified before is not fetched again; each segment has the digest that the manifest
// says, and the manifest that of the header. kCorrupt names what does not.
Result<Checkpoint> open_pack_part(const std::filesystem::path& folder, const Assign& assignment,
                                  const FetchPack& fetch);

}  // namespace hearth::cluster
