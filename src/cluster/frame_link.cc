#include "cluster/frame_link.h"

namespace hearth::cluster {

Result<Frame> next_frame(PeerLink& link, FrameReader& reader, std::chrono::milliseconds patience) {
  for (bool waited = false;;) {
    if (auto frame = TRY(reader.next())) return std::move(*frame);
    const size_t got = TRY(link.receive(reader.room()));
    reader.put(got);
    if (got > 0) continue;
    if (waited && patience != kForever) return fail(Code::kIo, "{} says nothing", link.peer());
    link.wait(patience);
    waited = true;
  }
}

}  // namespace hearth::cluster
