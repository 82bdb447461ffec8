// Ctrl-C as a flag, so that a command can stop in good order.
#pragma once

#include <atomic>

namespace hearth::cli {

// While one lives, SIGINT and SIGTERM set the flag instead of ending the program; a second signal ends it. One at a
// time.
class InterruptFlag {
 public:
  InterruptFlag();
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;

  [[nodiscard]] const std::atomic<bool>& flag() const;
  [[nodiscard]] bool raised() const { return flag().load(std::memory_order_relaxed); }
  void lower();
};

}  // namespace hearth::cli
