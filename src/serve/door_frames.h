// How one door's answer to another travels: a byte for the kind, four for the length (little endian), the payload.
//
//   b  the beginning of a stream: JSON {status, type, headers}
//   w  events of the stream, each with its place as id
//   e  its end: JSON, what it took
//   r  a whole answer instead: a line of JSON {status, type, headers, took}, then the body
//   .  nothing; the other side lives
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::serve {

struct DoorFrame {
  char kind = '.';
  std::string payload{};
};

std::string to_bytes(const DoorFrame& frame);

// Bytes in, frames out. Holds at most one frame that is not whole.
class DoorFrameReader {
 public:
  void feed(std::string_view bytes) { input_ += bytes; }
  // Empty: more bytes are needed. kMalformed for a kind there is none of, kLimit for a frame that is too long; then it is over.
  Result<std::optional<DoorFrame>> next();

 private:
  std::string input_;
  size_t taken_ = 0;
};

}  // namespace hearth::serve
