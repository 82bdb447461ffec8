// A pack of which a machine has only the segments it needs: a sparse file of the whole one's size, and beside it two lists: pieces that
// were fetched, and segments that are whole and verified.
#pragma once

#include <filesystem>

#include "cluster/node.h"

namespace hearth::cluster {

// Opens the part of a model that an assignment needs (text, rope and its layers or the head, or all of it), in `folder`, after getting what is missing in
// pieces of at most 4 MiB. What was fetched before is not fetched again; each segment has the digest that the manifest says, and
// the manifest that of the header. kCorrupt names what does not.
//
// Where several machines need the same piece, one of them takes it from the owner, chosen by the piece's place (rendezvous hashing), and
// the others take it from that one; from the owner if that fails. So the way from the owner carries each piece once.
Result<Checkpoint> open_pack_part(const std::filesystem::path& folder, const Assign& assignment,
                                  const PackSources& sources);

// A piece that was fetched, verified or not; kNotFound if it was not.
Result<std::vector<std::byte>> read_pack_part(const std::filesystem::path& folder, const Want& want);

}  // namespace hearth::cluster
