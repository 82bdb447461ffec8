// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/descriptor.h"
#include "base/function_ref.h"
#include "base/result.h"

namespace hearth {

// Owns the mapping; movable. The span stays valid while this lives. Any thread may read.
// If the file is cut short by someone else while mapped, touching the lost pages raises SIGBUS: see mapped_guard.h.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  // The same; as long as it is mapped, a shared lock (flock) tells others that the file is in use.
  static Result<MappedFile> open_in_use(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  // Tells the kernel that a range will not be read again, so its pages stop counting as resident.
  void release(size_t offset, size_t size) const;
  // Tells the kernel to read it in large pages where it can: for what is read over and over.
  void want_large_pages() const;

 private:
  static Result<MappedFile> map(Descriptor fd, const std::filesystem::path& path, bool in_use);

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
  Descriptor in_use_;
};

// The whole of a small file; kLimit if it has more than `bytes_max`.
Result<std::string> read_file(const std::filesystem::path& path, uint64_t bytes_max);

// Writes a file so that a reader sees either the old content or the new one, never half: part file, fsync, rename.
// `fill` writes to the descriptor.
Result<void> write_file_atomically(const std::filesystem::path& path, FunctionRef<Result<void>(int fd)> fill,
                                   unsigned mode = 0644);
Result<void> write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content,
                                   unsigned mode = 0644);

}  // namespace hearth
