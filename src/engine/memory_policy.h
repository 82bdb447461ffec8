// How much memory this process may have now: a pure function of what was asked for, what its control group leaves, and how short of
// memory everybody is, in the samples' time. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hearth {

struct MemorySample {
  double seconds = 0;           // when, on a clock that only goes forward
  uint64_t resident_bytes = 0;  // of this process
  std::optional<uint64_t> group_limit_bytes{};
  std::optional<double> stalled_seconds{};  // in all, in which somebody waited for memory (base/system_memory.h)
};

class MemoryPolicy {
 public:
  explicit MemoryPolicy(uint64_t asked_bytes) : asked_bytes_(asked_bytes) {}
  void ask(uint64_t bytes) { asked_bytes_ = bytes; }
  // A few times a second; the bound that holds from now on.
  uint64_t decide(const MemorySample& sample);

  [[nodiscard]] uint64_t asked_bytes() const { return asked_bytes_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }  // for the bound; empty: it is what was asked for

 private:
  void follow_pressure(const MemorySample& sample, uint64_t most);

  uint64_t asked_bytes_;
  double lowered_by_ = 0;                 // under pressure, as a part of what there would be
  std::optional<MemorySample> window_{};  // where the time begins over which waiting is counted
  double calm_since_ = 0;
  std::string reason_{};
};

}  // namespace hearth
