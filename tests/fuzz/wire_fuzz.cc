// Any bytes as frames between machines, as they come and under checksums that are right: what is accepted is what its bytes say.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "cluster/wire.h"
#include "net/relay.h"

namespace {

using namespace hearth::cluster;

// Whose numbers are said in fewer bits: other bits may say the same.
bool rounded(const Message& message) {
  const auto* step = std::get_if<Step>(&message);
  const auto* answer = std::get_if<StepAnswer>(&message);
  return (step && step->format != RowFormat::kF32) || (answer && answer->format != RowFormat::kF32);
}

void check(std::span<const std::byte> bytes) {
  FrameReader reader;
  size_t at = 0, consumed = 0;
  while (at < bytes.size()) {
    const auto room = reader.room();
    const size_t some = std::min({room.size(), bytes.size() - at, size_t{4096}});
    std::memcpy(room.data(), bytes.data() + at, some);
    reader.put(some);
    at += some;
    for (;;) {
      const auto frame = reader.next();
      if (!frame) {
        if (frame.error().message.empty()) __builtin_trap();
        return;
      }
      if (!*frame) break;
      const auto again = to_bytes(**frame);
      if (consumed + again.size() > at) __builtin_trap();
      if (!rounded((*frame)->message) && std::memcmp(again.data(), bytes.data() + consumed, again.size()) != 0)
        __builtin_trap();
      consumed += again.size();
    }
  }
}

// The same, with lengths that fit and checksums that are right, so that payloads are reached.
std::vector<std::byte> mended(std::span<const std::byte> bytes) {
  std::vector<std::byte> frame(bytes.begin(), bytes.end());
  if (frame.size() < kFrameHeaderBytes) return frame;
  const auto payload = static_cast<uint32_t>(frame.size() - kFrameHeaderBytes);
  std::memcpy(frame.data(), &payload, sizeof payload);
  frame[8] = std::byte{kWireVersion};
  frame[9] = static_cast<std::byte>(static_cast<size_t>(frame[9]) % std::variant_size_v<Message>);
  frame[10] = frame[11] = std::byte{0};
  const uint32_t crc = crc32c(std::span(frame).subspan(8));
  std::memcpy(frame.data() + 4, &crc, sizeof crc);
  return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  check(mended(bytes));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto piece = hearth::parse_relay_piece(text); piece && hearth::to_bytes(*piece) != text) __builtin_trap();
  return 0;
}
