// CHECK is for our own bugs only: on in release, unreachable from a file, packet or request.
#pragma once

#include <string_view>

namespace hearth::detail {
[[noreturn]] void check_failed(std::string_view condition, const char* file, int line);
}

#define CHECK(...) ((__VA_ARGS__) ? void() : ::hearth::detail::check_failed(#__VA_ARGS__, __FILE__, __LINE__))
