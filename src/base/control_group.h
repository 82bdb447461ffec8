// The control groups this process is in. Linux: Documentation/admin-guide/cgroup-v1 and cgroup-v2.
#pragma once

#include <filesystem>
#include <string>

#include "base/function_ref.h"

namespace hearth {

// Calls f(controllers, group) for each hierarchy below `root` (a fixture in tests): "cpu,cpuacct" and "/path" of version 1, "" and
// "/path" of version 2.
void each_control_group(const std::filesystem::path& root,
                        FunctionRef<void(const std::string& controllers, const std::string& group)> f);

// Calls f with the folder of a group below its mount and of every group above it, since each of them limits it. In a container the path may
// not exist: then the mount is the group.
void each_group_above(const std::filesystem::path& mount, std::string group,
                      FunctionRef<void(const std::filesystem::path& folder)> f);

}  // namespace hearth
