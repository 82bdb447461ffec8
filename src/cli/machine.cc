#include "cli/machine.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/topology.h"

namespace hearth::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 18> kFeatures{
    "sse4_2",      "avx",         "f16c",     "fma",   "avx2",    "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimdhp", "asimddp",  "i8mm",    "bf16",     "sve"};

constexpr uint64_t kUnlimited = 1ull << 60;  // control groups write "no limit" as some number near 2^63

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<uint64_t> number_in(std::string_view text) {
  const size_t begin = text.find_first_of("0123456789");
  if (begin == std::string_view::npos) return std::nullopt;
  uint64_t value = 0;
  if (std::from_chars(text.data() + begin, text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

// "name   : value" of /proc/cpuinfo and /proc/meminfo; the first of that name.
std::string field(const fs::path& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.find_first_not_of(" \t", name.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::vector<std::string> features(const fs::path& cpuinfo) {
  std::string flags = field(cpuinfo, "flags");            // x86
  if (flags.empty()) flags = field(cpuinfo, "Features");  // ARM
  std::istringstream words(flags);
  std::vector<std::string> found;
  for (std::string word; words >> word;) {
    if (std::ranges::find(kFeatures, word) != kFeatures.end()) found.push_back(word);
  }
  return found;
}

std::vector<Cache> caches(const fs::path& folder) {
  std::vector<Cache> found;
  for (int index = 0; index < 16; ++index) {
    const fs::path entry = folder / ("index" + std::to_string(index));
    const std::string size = first_line(entry / "size");  // "512K"
    const auto count = number_in(size);
    if (!count) break;
    const uint64_t unit = size.back() == 'K' ? 1024 : size.back() == 'M' ? 1024 * 1024 : 1;
    found.push_back({static_cast<int>(number_in(first_line(entry / "level")).value_or(0)), first_line(entry / "type"),
                     *count * unit});
  }
  return found;
}

// A group is limited by itself and by every group above it. In a container the path may not exist: then the root
// counts.
void tighten(std::optional<uint64_t>& limit, const fs::path& mount, std::string group, const char* file) {
  for (;;) {
    const auto value = number_in(first_line(fs::path(mount.string() + group) / file));  // "max" has no digits
    if (value && *value < kUnlimited) limit = std::min(limit.value_or(kUnlimited), *value);
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

std::optional<uint64_t> memory_limit(const fs::path& root) {
  std::optional<uint64_t> limit;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:memory:/path" (v1), "0::/path" (v2)
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) tighten(limit, root / "sys/fs/cgroup", group, "memory.max");
    if (controllers == "memory") tighten(limit, root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
  }
  return limit;
}

// "always [madvise] never" -> "madvise"
std::string chosen(const std::string& line) {
  const size_t begin = line.find('['), end = line.find(']');
  return begin == std::string::npos || end == std::string::npos ? "" : line.substr(begin + 1, end - begin - 1);
}

int allowed_threads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

}  // namespace

Machine probe_machine(const fs::path& root) {
  const fs::path cpuinfo = root / "proc/cpuinfo", meminfo = root / "proc/meminfo";
  Machine machine;
  machine.processor = field(cpuinfo, "model name");
  machine.features = features(cpuinfo);
  const FastCores fast = fast_cores();
  machine.cores = fast.all;
  machine.compute_cores = fast.text;
  machine.threads = allowed_threads();
  machine.caches = caches(root / "sys/devices/system/cpu/cpu0/cache");
  machine.memory_bytes = number_in(field(meminfo, "MemTotal")).value_or(0) * 1024;
  machine.memory_available_bytes = number_in(field(meminfo, "MemAvailable")).value_or(0) * 1024;
  machine.memory_limit_bytes = memory_limit(root);
  machine.huge_pages = chosen(first_line(root / "sys/kernel/mm/transparent_hugepage/enabled"));
  return machine;
}

uint64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("VmHWM:")) continue;
    uint64_t kib = 0;
    std::istringstream(line.substr(6)) >> kib;
    return kib * 1024;
  }
  return 0;
}

}  // namespace hearth::cli
