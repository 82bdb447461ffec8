#include "base/topology.h"

#include <gtest/gtest.h>
#include <hwloc.h>
#include <sched.h>

#include <fstream>

#include "support/test_folder.h"

namespace hearth {
namespace {

struct Kind {
  const char* cpus;
  int efficiency;
};

// The XML of a machine with `cores` cores of `threads` hardware threads, of these kinds.
std::string machine(int cores, int threads, std::initializer_list<Kind> kinds) {
  hwloc_topology_t topology = nullptr;
  hwloc_topology_init(&topology);
  hwloc_topology_set_synthetic(topology, ("core:" + std::to_string(cores) + " pu:" + std::to_string(threads)).c_str());
  EXPECT_EQ(hwloc_topology_load(topology), 0);
  for (const Kind& kind : kinds) {
    hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
    hwloc_bitmap_list_sscanf(cpus, kind.cpus);
    EXPECT_EQ(hwloc_cpukinds_register(topology, cpus, kind.efficiency, 0, nullptr, 0), 0);
    hwloc_bitmap_free(cpus);
  }
  char* xml = nullptr;
  int length = 0;
  EXPECT_EQ(hwloc_topology_export_xmlbuffer(topology, &xml, &length, 0), 0);
  std::string text(xml);
  hwloc_free_xmlbuffer(topology, xml);
  hwloc_topology_destroy(topology);
  return text;
}

TEST(FastCores, OneKindMeansAllPhysicalCores) {
  const FastCores cores = fast_cores_of(machine(4, 2, {})).value();
  EXPECT_EQ(cores.count, 4) << "hardware threads of one core share its units";
  EXPECT_FALSE(cores.bind) << "two engines on the same cores would wait for each other";
  EXPECT_EQ(cores.cpus.size(), 8u);
}

// Loops wait for their slowest thread: a little core among big ones makes all of them little.
TEST(FastCores, BigCoresBeforeLittleOnes) {
  const FastCores cores = fast_cores_of(machine(8, 1, {{"0-3", 1}, {"4-7", 5}})).value();
  EXPECT_EQ(cores.count, 4);
  EXPECT_EQ(cores.cpus, (std::vector<int>{4, 5, 6, 7}));
  EXPECT_TRUE(cores.bind);
  EXPECT_EQ(cores.text, "4 of 8 cores, the faster kind (CPUs 4-7)");
  const FastCores three = fast_cores_of(machine(8, 1, {{"0-3", 1}, {"4-6", 5}, {"7", 9}})).value();
  EXPECT_EQ(three.count, 4) << "one prime core alone is slower than it and its neighbours";
}

TEST(FastCores, ThisMachineHasSomeAndNoneAreInvented) {
  const FastCores cores = fast_cores();
  EXPECT_GE(cores.count, 1);
  EXPECT_LE(static_cast<size_t>(cores.count), std::max<size_t>(1, cores.cpus.size()));
  EXPECT_FALSE(fast_cores_of("<topology>").has_value());
}

TEST(FastCores, ControlGroupsGrantTime) {
  namespace fs = std::filesystem;
  const TestFolder folder;
  const fs::path& root = folder.path();
  auto write = [&](const char* name, const char* text) { folder.write(name, text); };
  EXPECT_FALSE(processor_quota(root).has_value());
  write("proc/self/cgroup", "0::/box/inner\n");
  write("sys/fs/cgroup/box/inner/cpu.max", "max 100000\n");
  EXPECT_FALSE(processor_quota(root).has_value());
  write("sys/fs/cgroup/box/cpu.max", "150000 100000\n");
  EXPECT_EQ(processor_quota(root), 1.5) << "the group above counts";
  write("proc/self/cgroup", "4:cpu,cpuacct:/old\n");
  write("sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/old/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(processor_quota(root).has_value());
  write("sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(processor_quota(root), 2.0);
  write("proc/self/cgroup", "damaged\n:\n0:");
  EXPECT_FALSE(processor_quota(root).has_value());
}

TEST(FastCores, AThreadIsKeptOnlyWhereThereIsRoomForAll) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  FastCores cores = fast_cores();
  cores.cpus.resize(1), cores.count = 1, cores.bind = true;
  keep_on(cores, 2);
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  keep_on(cores, 1);
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_EQ(CPU_COUNT(&after), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace hearth
