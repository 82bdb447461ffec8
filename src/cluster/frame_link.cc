#include "cluster/frame_link.h"

namespace hearth::cluster {

Result<Frame> next_frame(PeerLink& link, FrameReader& reader, std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  for (Clock::time_point heard = Clock::now();;) {
    if (auto frame = TRY(reader.next())) return std::move(*frame);
    const size_t got = TRY(link.receive(reader.room()));
    reader.put(got);
    if (got > 0) {
      heard = Clock::now();
      continue;
    }
    // Something may have come that is not yet a whole record of TLS.
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - heard);
    if (passed >= patience) return fail(Code::kIo, "{} says nothing", link.peer());
    link.wait(patience - passed);
  }
}

}  // namespace hearth::cluster
