// Brings a model into the store: from the hub, a URL or this machine, resumed where an earlier pull stopped.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/limits.h"
#include "base/result.h"
#include "net/http_download.h"
#include "store/import.h"

namespace hearth::cli {

struct PullOptions {
  std::string source, name, sha256, pattern, token_variable, endpoint;  // as `hearth pull` has them
  uint64_t bytes_max = limits::kFileBytes;
  int stall_seconds = 30;
  bool link = false;
  bool hub_only = false;  // refuses URLs and files
};

// What a pull tells, on its thread.
class PullObserver {
 public:
  explicit PullObserver(const std::atomic<bool>& flag) : cancelled(flag) {}
  virtual ~PullObserver() = default;
  virtual void begin(const ExpectedFile& file) = 0;
  virtual void progress(const DownloadProgress& progress) = 0;  // of that file: fetched, or read again for its digest
  virtual void note(const std::string& text) = 0;

  const std::atomic<bool>& cancelled;  // set by another thread: the pull ends with kCancelled; what has come is kept
};

struct Pulled {
  std::string name;  // in the store
  uint64_t bytes = 0;
  bool was_there = false;
};
Result<Pulled> pull_model(const PullOptions& options, PullObserver& observer);

}  // namespace hearth::cli
