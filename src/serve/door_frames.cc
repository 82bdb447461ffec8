#include "serve/door_frames.h"

#include <utility>

#include "base/limits.h"

namespace hearth::serve {
namespace {
constexpr size_t kHeadBytes = 5;
}

std::string to_bytes(const DoorFrame& frame) {
  std::string bytes(1, frame.kind);
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>((frame.payload.size() >> shift) & 0xff);
  return bytes + frame.payload;
}

Result<std::optional<DoorFrame>> DoorFrameReader::next() {
  const std::string_view input = std::string_view(input_).substr(taken_);
  const auto wait = [this] {
    input_.erase(0, std::exchange(taken_, 0));
    return std::nullopt;
  };
  if (input.size() < kHeadBytes) return wait();
  if (!std::string_view("bwer.").contains(input[0]))
    return fail(Code::kMalformed, "another door sent a frame of kind {}", static_cast<int>(input[0]));
  uint32_t bytes = 0;
  for (size_t i = 0; i < 4; ++i) bytes |= uint32_t{static_cast<unsigned char>(input[i + 1])} << (8 * i);
  if (bytes > limits::kDoorFrameBytes)
    return fail(Code::kLimit, "another door sent a frame of {} bytes, the limit is {}", bytes, limits::kDoorFrameBytes);
  if (input.size() < kHeadBytes + bytes) return wait();
  DoorFrame frame{.kind = input[0], .payload = std::string(input.substr(kHeadBytes, bytes))};
  taken_ += kHeadBytes + bytes;
  return frame;
}

}  // namespace hearth::serve
