// Progress of something long on stderr: a bar that redraws itself on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace hearth::cli {

// One thread. Nothing is shown for what takes less than half a second.
class ProgressLine {
 public:
  explicit ProgressLine(std::string label);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(uint64_t bytes, std::optional<uint64_t> total, double bytes_per_second);
  // Shows a line of its own (a warning, say) without disturbing the bar.
  void note(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  void clear();

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point begun_, shown_;
};

// "label   45%  221.0 MB of 491.4 MB  12.3 MB/s  0:22 left"; without a total only what is known.
std::string progress_text(const std::string& label, uint64_t bytes, std::optional<uint64_t> total,
                          double bytes_per_second);

}  // namespace hearth::cli
