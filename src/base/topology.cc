#include "base/topology.h"

#include <fmt/format.h>
#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "base/control_group.h"

namespace hearth {
namespace {

struct DestroyTopology {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
struct FreeBitmap {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Topology = std::unique_ptr<hwloc_topology, DestroyTopology>;
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

// Empty if the system gives none. With `xml`, of the machine it describes.
Topology load(std::string_view xml) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  const std::string text(xml);  // ends in a zero, which hwloc counts
  if (!text.empty() && hwloc_topology_set_xmlbuffer(raw, text.c_str(), static_cast<int>(text.size()) + 1) != 0)
    return nullptr;
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

int count_cores(hwloc_topology_t topology, hwloc_const_bitmap_t cpus) {
  const int cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  int count = 0;
  for (int i = 0; i < cores; ++i)
    count += hwloc_bitmap_intersects(hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, static_cast<unsigned>(i))->cpuset,
                                     cpus);
  return count > 0 ? count : std::max(1, hwloc_bitmap_weight(cpus));  // some machines tell of no cores
}

// Takes the least efficient kind away from `cpus`, if the machine has kinds, ranks them, and something stays.
void leave_out_slowest(hwloc_topology_t topology, hwloc_bitmap_t cpus) {
  const int kinds = hwloc_cpukinds_get_nr(topology, 0);
  const Bitmap kind(hwloc_bitmap_alloc()), rest(hwloc_bitmap_alloc());
  for (int i = 0; i < kinds; ++i) {  // least efficient first
    int efficiency = -1;
    if (hwloc_cpukinds_get_info(topology, static_cast<unsigned>(i), kind.get(), &efficiency, nullptr, nullptr, 0) !=
            0 ||
        efficiency < 0)
      return;
    if (!hwloc_bitmap_intersects(kind.get(), cpus)) continue;
    hwloc_bitmap_andnot(rest.get(), cpus, kind.get());
    if (!hwloc_bitmap_iszero(rest.get())) hwloc_bitmap_copy(cpus, rest.get());
    return;
  }
}

FastCores choose(hwloc_topology_t topology, hwloc_const_bitmap_t allowed) {
  FastCores out;
  const Bitmap fast(hwloc_bitmap_dup(allowed));
  leave_out_slowest(topology, fast.get());
  out.count = count_cores(topology, fast.get());
  out.bind = !hwloc_bitmap_isequal(fast.get(), allowed);
  for (int cpu = hwloc_bitmap_first(fast.get()); cpu >= 0; cpu = hwloc_bitmap_next(fast.get(), cpu))
    out.cpus.push_back(cpu);
  char* list = nullptr;
  hwloc_bitmap_list_asprintf(&list, fast.get());
  const std::unique_ptr<char, void (*)(void*)> keep(list, std::free);
  out.all = count_cores(topology, allowed);
  out.text = out.bind ? fmt::format("{} of {} cores, the faster kind (CPUs {})", out.count, out.all, list ? list : "")
                      : fmt::format("{} cores (CPUs {})", out.count, list ? list : "");
  return out;
}

// Version 2: "200000 100000", or "max 100000"; version 1: a file each. -1 and "max" mean no limit.
std::optional<double> quota_of(const std::filesystem::path& group) {
  std::ifstream both(group / "cpu.max"), first(group / "cpu.cfs_quota_us"), second(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(both >> quota >> period) && !(first >> quota && second >> period)) return std::nullopt;
  if (!(quota > 0 && period > 0)) return std::nullopt;
  return quota / period;
}

}  // namespace

std::vector<int> allowed_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  (void)::sched_getaffinity(0, sizeof allowed, &allowed);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  return cpus;
}

std::optional<double> processor_quota(const std::filesystem::path& root) {
  std::optional<double> least;
  each_control_group(root, [&](const std::string& controllers, const std::string& group) {
    const bool of_cpu = ("," + controllers + ",").contains(",cpu,");
    if (!of_cpu && !controllers.empty()) return;
    each_group_above(root / (of_cpu ? "sys/fs/cgroup/cpu" : "sys/fs/cgroup"), group,
                     [&](const std::filesystem::path& folder) {
                       if (const auto quota = quota_of(folder)) least = std::min(least.value_or(*quota), *quota);
                     });
  });
  return least;
}

FastCores fast_cores() {
  if (const Topology topology = load({})) {
    const Bitmap allowed(hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology.get()))),
        bound(hwloc_bitmap_alloc());
    if (hwloc_get_cpubind(topology.get(), bound.get(), HWLOC_CPUBIND_THREAD) == 0 &&
        hwloc_bitmap_intersects(allowed.get(), bound.get()))
      hwloc_bitmap_and(allowed.get(), allowed.get(), bound.get());
    FastCores cores = choose(topology.get(), allowed.get());
    // More threads than time would be stopped in the middle of a loop.
    if (const auto quota = processor_quota(); quota && *quota < cores.count) {
      cores.count = std::max(1, static_cast<int>(*quota));
      cores.text += fmt::format(", of which control groups grant {:.2g}", *quota);
    }
    return cores;
  }
  FastCores unknown;
  unknown.text = "unknown cores";
  return unknown;
}

Result<FastCores> fast_cores_of(std::string_view xml) {
  const Topology topology = load(xml);
  if (xml.empty() || !topology) return fail(Code::kMalformed, "not a description of a machine");
  return choose(topology.get(), hwloc_topology_get_allowed_cpuset(topology.get()));
}

void keep_on(const FastCores& cores, int n_threads) {
  if (!cores.bind || n_threads > cores.count) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cores.cpus)
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  (void)::sched_setaffinity(0, sizeof set, &set);
}

}  // namespace hearth
