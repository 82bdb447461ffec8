#include "cli/progress_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/output.h"

namespace hearth::cli {
namespace {

constexpr auto kQuietFor = std::chrono::milliseconds(500);
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(10);
constexpr int kBarWidth = 20;

std::string duration(double seconds) {
  if (seconds > 99 * 3600.0) return "days";
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string bar(uint64_t bytes, uint64_t total) {
  const double share = total == 0 ? 1.0 : static_cast<double>(std::min(bytes, total)) / static_cast<double>(total);
  const int full = static_cast<int>(share * kBarWidth);
  return "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "] ";
}

// A line that wraps cannot be redrawn in place, so it is cut to what the terminal shows.
size_t terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string progress_text(const std::string& label, uint64_t bytes, std::optional<uint64_t> total,
                          double bytes_per_second) {
  std::string text = label;
  if (total && *total > 0)
    text += fmt::format("  {}%", std::min<uint64_t>(100, bytes / std::max<uint64_t>(1, *total / 100)));
  text += "  " + human_bytes(bytes);
  if (total) text += " of " + human_bytes(*total);
  if (bytes_per_second > 0) text += fmt::format("  {}/s", human_bytes(static_cast<uint64_t>(bytes_per_second)));
  if (total && bytes_per_second > 0 && bytes < *total) {
    text += fmt::format("  {} left", duration(static_cast<double>(*total - bytes) / bytes_per_second));
  }
  return text;
}

ProgressLine::ProgressLine(std::string label)
    : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO) == 1), begun_(Clock::now()), shown_(begun_) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::clear() {
  if (drawn_) fmt::print(stderr, "\r\033[K");
  drawn_ = false;
}

void ProgressLine::update(uint64_t bytes, std::optional<uint64_t> total, double bytes_per_second) {
  const auto now = Clock::now();
  if (now - begun_ < kQuietFor) return;
  const std::string text = progress_text(label_, bytes, total, bytes_per_second);
  if (terminal_) {
    if (now - shown_ < kRedrawInterval) return;
    shown_ = now;
    clear();
    fmt::print(stderr, "{}", ((total ? bar(bytes, *total) : "") + text).substr(0, terminal_columns() - 1));
    std::fflush(stderr);
    drawn_ = true;
  } else if (now - shown_ >= kPlainInterval) {
    shown_ = now;
    fmt::print(stderr, "{}\n", text);
  }
}

void ProgressLine::note(const std::string& text) {
  clear();
  fmt::print(stderr, "{}\n", text);
}

}  // namespace hearth::cli
