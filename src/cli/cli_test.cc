// The parts of the commands that can be tested without running the program (that is in tests/e2e).
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/machine.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/pull_source.h"
#include "support/test_folder.h"

namespace hearth::cli {
namespace {
namespace fs = std::filesystem;

class MachineTest : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const { folder_.write(path, text); }
  TestFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(MachineTest, ReadsProcessorMemoryAndCaches) {
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma nonsense f16c\n");
  write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   500 kB\n");
  write("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n");
  write("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
  write("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n");
  write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  const Machine machine = probe_machine(root_);
  EXPECT_EQ(machine.processor, "Some CPU");
  EXPECT_EQ(machine.features, (std::vector<std::string>{"avx2", "fma", "f16c"}));
  EXPECT_EQ(machine.memory_available_bytes, 500u * 1024);
  ASSERT_EQ(machine.caches.size(), 1u);
  EXPECT_EQ(machine.caches[0].bytes, 32u * 1024);
  EXPECT_EQ(machine.huge_pages, "madvise");
}

TEST_F(MachineTest, AMachineThatSaysNothingIsNoError) {
  const Machine machine = probe_machine(root_);
  EXPECT_EQ(machine.processor, "");
  EXPECT_EQ(machine.memory_limit_bytes, std::nullopt);
  EXPECT_GE(machine.cores, 1);
}

TEST(OutputTest, SizesAndProgressReadWell) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(98'362'432), "98.4 MB");
  EXPECT_EQ(human_memory(512u << 20), "512 MiB");
  EXPECT_EQ(progress_text("m", 50'000'000, 100'000'000, 1e6), "m  50%  50.0 MB of 100 MB  1.0 MB/s  0:50 left");
  EXPECT_EQ(progress_text("m", 5000, {}, 0), "m  5.0 kB");
  EXPECT_EQ(progress_text("m", 0, 0, 0), "m  0 B of 0 B");
  EXPECT_EQ(table({{"A", "B"}, {"long", "x"}}), "A     B\nlong  x\n");
}

TEST(PullSourceTest, TheFormOfASourceSaysWhatItIs) {
  EXPECT_TRUE(std::holds_alternative<UrlSource>(*parse_pull_source("https://example.org/m.gguf")));
  EXPECT_TRUE(std::holds_alternative<HubSource>(*parse_pull_source("Qwen/Qwen3-GGUF:Q8_0")));
  EXPECT_TRUE(std::holds_alternative<HubSource>(*parse_pull_source("https://huggingface.co/Qwen/Qwen3-GGUF")));
  EXPECT_EQ(std::get<UrlSource>(*parse_pull_source("https://huggingface.co/o/n/blob/main/m.gguf")).text,
            "https://huggingface.co/o/n/resolve/main/m.gguf");
  EXPECT_EQ(std::get<HubSource>(*parse_pull_source("tiny")).known->alias, "tiny");
  EXPECT_TRUE(std::holds_alternative<LocalSource>(*parse_pull_source("/proc/self/exe")));
  for (const char* text :
       {"", "ftp://a/b", "file://relative", "/no/such/file", "no-such.gguf", "a b", "x", "https://"}) {
    EXPECT_FALSE(parse_pull_source(text)) << text;
  }
  const auto secret = parse_pull_source("https://user:secret@h:bad/x");
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().message.find("secret"), std::string::npos) << secret.error().message;
}

TEST(PullSourceTest, NamesComeFromTheSource) {
  EXPECT_EQ(*default_model_name(*parse_pull_source("Qwen/Qwen3-GGUF:Q8_0")), "qwen/qwen3-gguf:q8_0");
  EXPECT_EQ(*default_model_name(*parse_pull_source("https://h/a/My%20Model.gguf")), "my-model");
  EXPECT_EQ(*default_model_name(*parse_pull_source("default")), "qwen2.5-coder-0.5b-instruct");
  EXPECT_FALSE(default_model_name(*parse_pull_source("https://h/")));
}

}  // namespace
}  // namespace hearth::cli
