// Errors as values. Every function that can fail on something from outside (a file, a request, the system) returns
// Result<T>.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace hearth {

// What kind of failure; one table (error_table in result.cc) maps each to an exit code, an HTTP status and a name.
enum class Code {
  kInvalidArgument,  // the caller asked for something that makes no sense
  kMalformed,        // a file, packet or text breaks its format
  kUnsupported,      // well formed, but nothing we can do (a type, a family, a key)
  kNotFound,         // no such model, file or route
  kLimit,            // over a limit of limits.h or a budget the user set
  kIo,               // the system said no (disk, network)
  kCorrupt,          // a digest does not match
  kBusy,             // a queue is full; try again later
  kCancelled,        // the caller gave up
  kInternal,         // our own bug, reported instead of hidden
};

struct CodeInfo {
  Code code;
  std::string_view name;
  int exit_code;
  int http_status;
};
// The row of the error table for a code. Cost: a lookup in an array.
const CodeInfo& info(Code code);

// The message says what was wrong, with the number, and what to do next.
struct Error {
  Code code;
  std::string message;
};

template <typename T = void>
using Result = std::expected<T, Error>;

// fail(Code::kMalformed, "{}: {} bytes, need {}", path, have, need): the usual way to make an error.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(Code code, fmt::format_string<Args...> text, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(text, std::forward<Args>(args)...)});
}

// The same error with "where: " in front, for callers that know the file or the field.
[[nodiscard]] std::unexpected<Error> within(std::string_view where, Error error);

}  // namespace hearth

// TRY(expression): the value of a Result, or return its error from the enclosing function.
#define TRY(...)                                                                  \
  __extension__({                                                                 \
    auto try_result = (__VA_ARGS__);                                              \
    if (!try_result.has_value()) [[unlikely]]                                     \
      return ::std::unexpected<::hearth::Error>(::std::move(try_result).error()); \
    ::hearth::detail::take(::std::move(try_result));                              \
  })

namespace hearth::detail {
template <typename T>
T take(std::expected<T, Error>&& result) {
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}
}  // namespace hearth::detail
