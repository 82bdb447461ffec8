// How much memory the system leaves to this process, and how short of it everybody is.
//
// Linux: Documentation/admin-guide/cgroup-v2 and cgroup-v1/memory, accounting/psi.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace hearth {

// The tightest of the control groups this process is in, v1 or v2; nothing if there is no limit. `root`: another one for tests.
std::optional<uint64_t> memory_group_limit(const std::filesystem::path& root = "/");
// For how long in all, in seconds, some task had to wait for memory: of this process's control group if the kernel counts
// that, else of the machine. Nothing where it does not tell.
std::optional<double> memory_stalled_seconds(const std::filesystem::path& root = "/");

}  // namespace hearth
