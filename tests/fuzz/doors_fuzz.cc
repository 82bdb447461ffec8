// Any bytes as what other doors and clouds send: frames, records, states, replies, places in a stream.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "serve/cloud.h"
#include "serve/door_frames.h"
#include "serve/door_record.h"
#include "serve/doors.h"
#include "serve/stream_place.h"

using namespace hearth::serve;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  DoorFrameReader reader;
  for (size_t at = 0; at < text.size(); at += 97) {
    reader.feed(text.substr(at, 97));
    auto frame = reader.next();
    for (; frame && *frame; frame = reader.next())
      if (to_bytes(**frame).size() != (*frame)->payload.size() + 5) __builtin_trap();
    if (!frame) break;
  }
  // What is accepted says the same when it is sent on.
  if (const auto record = parse_record(text)) {
    const auto again = parse_record(to_bytes(*record));
    if (!again || to_bytes(*again) != to_bytes(*record)) __builtin_trap();
  }
  if (const auto place = parse_place(text); place && parse_place(place_text(*place)) != *place) __builtin_trap();
  (void)parse_door_state(text);
  (void)parse_cloud_reply(text, 1);
  return 0;
}
