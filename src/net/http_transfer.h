// One GET over HTTP or HTTPS, redirects followed. With url.cc the only place that knows libcurl.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/url.h"

namespace hearth {

struct HttpOptions {
  std::string bearer_token;  // sent to the origin of the first URL only, and only over https or to this machine
  std::string ca_file;       // certificates to trust instead of the system's; certificates are always checked
  int connect_seconds_max = 30;
  int stall_seconds_max = 30;  // a connection slower than 1 kB/s for so long has failed
  const std::atomic<bool>* cancel =
      nullptr;  // set by another thread or a signal handler; looked at about once a second
};

struct HttpAnswer {
  int status = 0;
  std::optional<uint64_t> content_length;
  std::string etag, last_modified, content_range, content_encoding;
  int retry_after_seconds = 0;
};

// How a transfer ended if not well.
struct TransferFailure {
  Error error;
  bool transient = false;  // trying again may help: connection lost, stalled, server overloaded
};

struct TransferSink {
  // Called once, before any body byte, with the final answer (redirects are not shown). An error ends the transfer.
  std::function<Result<void>(const HttpAnswer&)> head;
  // Bytes of a 200 or 206 body, in order. Other bodies are dropped.
  std::function<Result<void>(std::span<const std::byte>)> body;
};

// Blocks until the body is complete or the transfer failed. At most limits::kRedirects redirects; one from https to
// http is refused, and so is any other scheme. The answer may have any status; a status that is no success is not a
// failure here.
std::expected<HttpAnswer, TransferFailure> http_get(const Url& url, const std::vector<std::string>& headers,
                                                    const HttpOptions& options, const TransferSink& sink);

// A whole small document in memory; status other than 200 is an error (http_status_error), more than `bytes_max` too.
// Transient failures are tried again a few times.
Result<std::string> http_get_text(const Url& url, const HttpOptions& options, uint64_t bytes_max);

// What a status means to the user, with what to do; `transient` for 408, 425, 429 and 5xx.
TransferFailure http_status_error(const Url& url, const HttpAnswer& answer, bool with_token);

// "libcurl/7.88.1 OpenSSL/3.0.22 ...", for `doctor`.
std::string http_library_version();

}  // namespace hearth
