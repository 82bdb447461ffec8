#include "base/system_memory.h"

#include <gtest/gtest.h>

#include "support/test_folder.h"

namespace hearth {
namespace {
namespace fs = std::filesystem;

class SystemMemoryTest : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const { folder_.write(path, text); }
  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(SystemMemoryTest, TheTightestControlGroupIsTheLimit) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/memory.max", "536870912\n");
  EXPECT_EQ(memory_group_limit(root_), 512u << 20);
  write("sys/fs/cgroup/a/b/memory.high", "268435456\n");
  EXPECT_EQ(memory_group_limit(root_), 256u << 20) << "where the kernel begins to slow the group down";
  write("proc/self/cgroup", "4:memory:/x/y\n3:cpu,cpuacct:/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(memory_group_limit(root_), std::nullopt);
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000000\n");
  EXPECT_EQ(memory_group_limit(root_), 1'000'000u);
}

TEST_F(SystemMemoryTest, WaitingForMemoryIsTheGroupsOwnWhereTheKernelCountsIt) {
  EXPECT_EQ(memory_stalled_seconds(root_), std::nullopt);
  write("proc/self/cgroup", "0::/a\n");
  write("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=1\n");
  EXPECT_EQ(memory_stalled_seconds(root_), 2.5);
  write("sys/fs/cgroup/a/memory.pressure", "some avg10=1.00 avg60=0.00 avg300=0.00 total=500000\n");
  EXPECT_EQ(memory_stalled_seconds(root_), 0.5);
  for (const char* nonsense : {"", "some", "some total=", "full total=3", "some avg10=0 total=x", "\xff\xfe"}) {
    write("sys/fs/cgroup/a/memory.pressure", nonsense);
    EXPECT_EQ(memory_stalled_seconds(root_), 2.5) << nonsense;
  }
}

}  // namespace
}  // namespace hearth
