// The small files below /proc and /sys in which a kernel tells things. What is missing reads as empty.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace hearth {

std::string first_line(const std::filesystem::path& path);
// The first number in a text, "512K" as well as "some total=12".
std::optional<uint64_t> number_in(std::string_view text);
// "name   : value", as /proc/cpuinfo and /proc/meminfo have it; the first of that name.
std::string field(const std::filesystem::path& path, std::string_view name);

}  // namespace hearth
