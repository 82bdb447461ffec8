#include "base/control_group.h"

#include <fstream>

namespace hearth {

void each_control_group(const std::filesystem::path& root,
                        FunctionRef<void(const std::string& controllers, const std::string& group)> f) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/path", "0::/path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second != std::string::npos) f(line.substr(first + 1, second - first - 1), line.substr(second + 1));
  }
}

void each_group_above(const std::filesystem::path& mount, std::string group,
                      FunctionRef<void(const std::filesystem::path& folder)> f) {
  for (;;) {
    f(mount.string() + group);
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

}  // namespace hearth
