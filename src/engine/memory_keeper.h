// Keeps the memory of the process within its bound while it runs: watches the control group, the system's pressure and what is
// resident, and has the models give way.
//
// Threads: everything may be called from any thread. One thread of its own, which looks a few times a second.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/metrics.h"
#include "base/result.h"
#include "engine/catalog.h"
#include "engine/memory_policy.h"

namespace hearth {

struct MemoryKeeperOptions {
  uint64_t bytes =
      0;  // that may be resident at most, the program and everything; 0: the machine's own limits count alone
  bool asked = false;                // by somebody: models that do not fit are made to, from the first one on
  std::filesystem::path root = "/";  // of /proc and /sys
  std::chrono::milliseconds period{200};
};

class MemoryKeeper {
 public:
  // `catalog` outlives it.
  MemoryKeeper(MemoryKeeperOptions options, Catalog& catalog);
  ~MemoryKeeper();
  MemoryKeeper(const MemoryKeeper&) = delete;
  MemoryKeeper& operator=(const MemoryKeeper&) = delete;

  // What may be resident from now on. kInvalidArgument if that is less than the program itself has to have.
  Result<void> set_limit(uint64_t bytes);
  // Bound, what is resident, and what gave way, for people and programs.
  [[nodiscard]] boost::json::object state() const;
  [[nodiscard]] uint64_t bound() const;  // 0: none
  void write_metrics(Exposition& out) const;

 private:
  void work(const std::stop_token& stop);
  void look();
  uint64_t decide(uint64_t resident);

  const MemoryKeeperOptions options_;
  Catalog& catalog_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  MemoryPolicy policy_;
  bool enforced_ = false;  // models are held to the bound
  bool look_now_ = false;
  uint64_t bound_ = 0, told_ = 0;
  uint64_t excess_ = 0;  // that was resident beyond the bound in spite of everything, and is taken off since
  double told_at_ = 0;
  std::string reason_;
  uint64_t n_lowered_ = 0;
  std::jthread thread_;  // last
};

}  // namespace hearth
