// Frames over a connection, for whoever has one connection to wait on.
#pragma once

#include "cluster/wire.h"
#include "net/peer_link.h"

namespace hearth::cluster {

inline constexpr std::chrono::milliseconds kForever{1 << 30};

// The next frame; an error when the connection is over, or no byte came for `patience`.
Result<Frame> next_frame(PeerLink& link, FrameReader& reader, std::chrono::milliseconds patience);

}  // namespace hearth::cluster
