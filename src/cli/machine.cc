#include "cli/machine.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/system_file.h"
#include "base/system_memory.h"
#include "base/topology.h"

namespace hearth::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 18> kFeatures{
    "sse4_2",      "avx",         "f16c",     "fma",   "avx2",    "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimdhp", "asimddp",  "i8mm",    "bf16",     "sve"};

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

// "always [madvise] never" -> "madvise"
std::string chosen(const std::string& line) {
  const size_t begin = line.find('['), end = line.find(']');
  return begin == std::string::npos || end == std::string::npos ? "" : line.substr(begin + 1, end - begin - 1);
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
  machine.threads = std::max(1, static_cast<int>(allowed_cpus().size()));
  machine.caches = caches(root / "sys/devices/system/cpu/cpu0/cache");
  machine.memory_bytes = number_in(field(meminfo, "MemTotal")).value_or(0) * 1024;
  machine.memory_available_bytes = number_in(field(meminfo, "MemAvailable")).value_or(0) * 1024;
  machine.memory_limit_bytes = memory_group_limit(root);
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
