// A file read or written past the page cache, where its file system can.
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
  // A new one of so many bytes, for its owner alone, in place of what there is. kIo, saying so, if the disk has no room for it.
  static Result<DirectFile> create(const std::filesystem::path& path, uint64_t bytes);
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  // Any thread. At the end of the file up to an alignment more than its bytes may be written: finish() cuts that off.
  Result<void> write(uint64_t offset, std::span<const std::byte> data) const;
  Result<void> finish() const;
  // Fills `into` from an offset; what lies behind the file's end stays as it is. Any thread. kIo also if it ends before `offset`.
  Result<void> read(uint64_t offset, std::span<std::byte> into) const;

 private:
  Descriptor file_;
  uint64_t bytes_ = 0;
  std::filesystem::path path_;
};

}  // namespace hearth
