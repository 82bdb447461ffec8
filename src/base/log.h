// Diagnostics on stderr. Prompt or answer text never goes here at info or above.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace hearth {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Set once at start by cli; the default is kWarning. Any thread may log.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view text);

}  // namespace hearth

// LOG(kWarning, "{} of {} pages", a, b): the arguments are evaluated only if the level is on.
#define LOG(level, ...)                                                          \
  do {                                                                           \
    if (::hearth::log_enabled(::hearth::LogLevel::level))                        \
      ::hearth::log_line(::hearth::LogLevel::level, ::fmt::format(__VA_ARGS__)); \
  } while (0)
