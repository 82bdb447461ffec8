// How fast this machine puts tokens and prompts through weights, with its own kernels, and what its disk and the ways to others give: what
// a plan needs to know.
#pragma once

#include <filesystem>

#include "backend/backend.h"
#include "net/peer_link.h"

namespace hearth::cluster {

struct MachineRates {
  double bytes_per_second = 0;         // of weights read for one token
  double prompt_bytes_per_second = 0;  // of weights times rows, with many rows at once
};
// Of products with 40 MB of 4-bit weights. Takes less than a second and that memory.
Result<MachineRates> measure_rates(Backend& backend);

// Bytes per second of a file read in order past the page cache, over at most 64 MiB of it.
Result<double> measure_disk(const std::filesystem::path& file);

struct LinkRates {
  double seconds = 0;  // one way
  double bytes_per_second = 0;
};
// To a node and back. kIo if it is not to be reached from here.
Result<LinkRates> measure_link(const SiteTls& tls, const ListenAddress& node);

}  // namespace hearth::cluster
