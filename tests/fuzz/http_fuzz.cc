// The bytes of a connection, in pieces of any size, through the reader that the server uses. What is read may not depend on the
// pieces; only that a body is wrong may be noticed some bytes later.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_reader.h"

namespace {

// Every request and the end, as text.
std::string read_all(std::string_view bytes, size_t piece) {
  hearth::HttpReader reader({.head_bytes = 4096, .target_bytes = 512, .headers = 16, .body_bytes = 4096});
  std::string input, seen;
  bool in_body = false;
  for (size_t at = 0; at < bytes.size() && reader.state() != hearth::HttpReader::State::kFailed; at += piece) {
    input += bytes.substr(at, piece);
    for (;;) {
      const size_t used = reader.feed(input);
      const bool past_head = in_body || used > 2;  // an empty line before a head is skipped
      in_body = reader.state() == hearth::HttpReader::State::kBody ||
                (past_head && reader.state() == hearth::HttpReader::State::kFailed);
      if (used > input.size()) __builtin_trap();
      input.erase(0, used);
      if (reader.state() != hearth::HttpReader::State::kComplete) break;
      const hearth::HttpRequest request = reader.take();
      if (request.body.size() > 4096 || request.headers.size() > 16 || request.path.size() > 512) __builtin_trap();
      seen +=
          request.method + " " + request.path + "?" + request.query + "@" + request.host + "\n" + request.body + "\n";
      for (const auto& [name, value] : request.headers) seen += name + "=" + value + "\n";
    }
  }
  if (reader.state() == hearth::HttpReader::State::kFailed) {
    if (reader.error_status() < 400 || reader.error_status() > 505 || reader.error_message().empty()) __builtin_trap();
    if (!in_body) seen += "failed";
  }
  if (in_body) seen += "no whole body";
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = read_all(bytes, size == 0 ? 1 : size);
  if (read_all(bytes, 1) != whole || read_all(bytes, 7) != whole) __builtin_trap();
  return 0;
}
