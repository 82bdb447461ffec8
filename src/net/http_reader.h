// Reads HTTP/1.1 requests out of the bytes of a connection. Behind it is Beast's parser, with stricter rules around it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/limits.h"
#include "net/http_exchange.h"

namespace hearth {

struct HttpReaderLimits {
  uint64_t head_bytes = limits::kHttpHeadBytes;  // request line and headers
  uint64_t target_bytes = limits::kHttpTargetBytes;
  uint64_t headers = limits::kHttpHeaders;
  uint64_t body_bytes = limits::kHttpBodyBytes;
};

// One per connection; one thread. Whatever can be read in two ways is refused: bare LF, folded headers, two lengths, a length
// and chunks, two hosts, transfer codings other than chunked, headers after the body have no effect.
class HttpReader {
 public:
  enum class State {
    kHead,      // needs more bytes of request line and headers
    kBody,      // needs more bytes of the body
    kComplete,  // take() it
    kFailed,    // answer with error_status() and close
  };

  explicit HttpReader(const HttpReaderLimits& limits);
  ~HttpReader();

  // Takes bytes from the front and says how many; the caller brings the others again with what follows them. Of a head
  // that is not complete none is taken. Nothing is taken once a request is complete.
  size_t feed(std::string_view input);
  [[nodiscard]] State state() const { return state_; }
  // The client waits for "100 Continue" before it sends its body. True once per request.
  bool take_expectation();
  // The request; the reader is ready for the next one.
  HttpRequest take();
  // Of the request that take() gave last.
  [[nodiscard]] bool keep_alive() const { return keep_alive_; }
  [[nodiscard]] bool http_1_0() const { return http_1_0_; }

  [[nodiscard]] int error_status() const { return error_status_; }
  [[nodiscard]] const std::string& error_message() const { return error_message_; }

 private:
  struct Parser;

  size_t fail(int status, std::string message);
  size_t feed_head(std::string_view head);
  size_t parse_head(std::string_view head);
  size_t feed_body(std::string_view input);
  bool accept_head();
  bool accept_target(std::string_view target);
  bool accept_framing();

  HttpReaderLimits limits_;
  State state_ = State::kHead;
  std::unique_ptr<Parser> parser_;
  HttpRequest request_;
  size_t scanned_ = 0;  // bytes of the head that hold nothing wrong and no end
  bool skipped_line_ = false, expects_continue_ = false, keep_alive_ = false, http_1_0_ = false;
  int error_status_ = 0;
  std::string error_message_;
};

}  // namespace hearth
