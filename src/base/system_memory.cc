#include "base/system_memory.h"

#include <algorithm>
#include <string>

#include "base/control_group.h"
#include "base/system_file.h"

namespace hearth {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kUnlimited = 1ull << 60;  // control groups write "no limit" as some number near 2^63

void tighten(std::optional<uint64_t>& limit, const fs::path& mount, const std::string& group, const char* file) {
  each_group_above(mount, group, [&](const fs::path& folder) {
    const auto value = number_in(first_line(folder / file));  // "max" has no digits
    if (value && *value < kUnlimited) limit = std::min(limit.value_or(kUnlimited), *value);
  });
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=50641206", in microseconds.
std::optional<double> stalled_seconds(const fs::path& file) {
  const std::string line = first_line(file);
  const size_t total = line.find("total=");
  if (!line.starts_with("some ") || total == std::string::npos) return std::nullopt;
  const auto microseconds = number_in(std::string_view(line).substr(total));
  if (!microseconds) return std::nullopt;
  return static_cast<double>(*microseconds) * 1e-6;
}

}  // namespace

std::optional<uint64_t> memory_group_limit(const fs::path& root) {
  std::optional<uint64_t> limit;
  each_control_group(root, [&](const std::string& controllers, const std::string& group) {
    if (controllers.empty()) {
      tighten(limit, root / "sys/fs/cgroup", group, "memory.max");
      tighten(limit, root / "sys/fs/cgroup", group, "memory.high");
    }
    if (controllers == "memory") tighten(limit, root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
  });
  return limit;
}

std::optional<double> memory_stalled_seconds(const fs::path& root) {
  std::optional<double> seconds;
  each_control_group(root, [&](const std::string& controllers, const std::string& group) {
    if (controllers.empty())
      seconds = stalled_seconds(fs::path((root / "sys/fs/cgroup").string() + group) / "memory.pressure");
  });
  return seconds ? seconds : stalled_seconds(root / "proc/pressure/memory");
}

}  // namespace hearth
