// A large file over HTTP: resumed after any interruption, never with bytes of two different files.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/limits.h"
#include "net/http_transfer.h"

namespace hearth {

struct DownloadProgress {
  uint64_t bytes = 0;             // on disk, earlier attempts included
  std::optional<uint64_t> total;  // as the server or the caller says
  double bytes_per_second = 0;    // over the last seconds
};

struct DownloadRequest {
  Url url;
  // The bytes so far. Beside it <part>.state remembers which version of which URL they belong to. One process at a
  // time.
  std::filesystem::path part;
  std::optional<uint64_t> bytes;            // if known: any other size is refused
  uint64_t bytes_max = limits::kFileBytes;  // a server that sends more is cut off
  // The caller checks a digest afterwards. Then a server that gives no ETag and no date may be resumed too.
  bool digest_follows = false;
  HttpOptions http;
  int attempts_without_progress_max = 6;
  std::chrono::milliseconds first_pause{250};               // doubles with each attempt without progress, up to 8 s
  std::function<void(const DownloadProgress&)> progress;    // at most ten times a second and at the end; may be empty
  std::function<void(const std::string& reason)> retrying;  // before each pause; may be empty
};

// Gives the number of bytes in `part`. On an error the part stays for a later call, except where it cannot be of use.
// Resuming: Range with If-Range on a strong ETag, or the date. 206 must continue exactly at our offset with the same
// total and ETag; 200 means the file starts again from its first byte; anything else discards the part and starts
// again. Not flushed to disk and not verified: that is the store's work. A body without a length that ends early looks
// complete.
Result<uint64_t> download(const DownloadRequest& request);

}  // namespace hearth
