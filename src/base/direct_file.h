// A file read past the page cache, where its file system can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/descriptor.h"
#include "base/result.h"

namespace hearth {

class DirectFile {
 public:
  static constexpr uint64_t kAlignment = 4096;  // of offsets, sizes and memory

  static Result<DirectFile> open(const std::filesystem::path& path);
  // Fills `into` from an offset; what lies behind the file's end stays as it is. Any thread. kIo also if it ends before `offset`.
  Result<void> read(uint64_t offset, std::span<std::byte> into) const;

 private:
  Descriptor file_;
  uint64_t bytes_ = 0;
  std::filesystem::path path_;
};

}  // namespace hearth
