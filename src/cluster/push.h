// Brings a model's pack to machines of the site that need it soon: each byte leaves here once, and they give it to each other.
#pragma once

#include <filesystem>
#include <functional>
#include <span>

#include "cluster/wire.h"
#include "net/peer_link.h"

namespace hearth::cluster {

struct PushStats {
  uint64_t pack_bytes = 0, sent_bytes = 0;
};

// Returns when all have it, and every segment is verified there. `progress`: bytes sent so far, about which all pieces together have as many
// as the pack; from any thread, one at a time. Errors name the machine; those that could be served have it all the same.
Result<PushStats> push_pack(const std::filesystem::path& pack, const SiteTls& tls, std::span<const ListenAddress> nodes,
                            const std::function<void(uint64_t sent, uint64_t pack)>& progress);

// Gives a machine the pieces of a pack that it asks for until it has done what it was assigned; kIo if it says nothing for so long.
Result<Ready> give_pieces(PeerLink& link, FrameReader& reader, std::span<const std::byte> pack,
                          std::chrono::milliseconds patience,
                          const std::function<void(uint64_t offset, size_t bytes)>& given);

}  // namespace hearth::cluster
