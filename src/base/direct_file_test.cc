#include "base/direct_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/process_memory.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

TEST(DirectFile, ReadsWhatIsThereUpToTheEndThatIsWithinAPage) {
  const TestFolder folder;
  const auto path = folder.path() / "file";
  std::string content;
  for (int i = 0; i < 3 * 4096 + 77; ++i) content += static_cast<char>(i * 31 + i / 4096);
  std::ofstream(path, std::ios::binary) << content;
  const auto file = DirectFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  auto memory = PageMemory::allocate(4 * 4096);
  ASSERT_TRUE(memory) << memory.error().message;
  const auto read = file->read(4096, {memory->data(), 3 * 4096});
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(memory->data()), content.size() - 4096), content.substr(4096));
  // A page behind the end, and a file that is not there.
  const auto behind = file->read(4 * 4096, {memory->data(), 4096});
  ASSERT_FALSE(behind);
  EXPECT_EQ(behind.error().code, Code::kIo);
  EXPECT_EQ(DirectFile::open(folder.path() / "none").error().code, Code::kNotFound);
}

TEST(ProcessMemory, WhatIsWrittenIsResident) {
  const uint64_t before = resident_bytes();
  auto memory = PageMemory::allocate(64 << 20);
  ASSERT_TRUE(memory);
  for (int64_t at = 0; at < memory->bytes(); at += 4096) memory->data()[at] = std::byte{1};
  EXPECT_GE(resident_bytes(), before + (60 << 20));
}

}  // namespace
}  // namespace hearth
