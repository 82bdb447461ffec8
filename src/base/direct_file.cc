#include "base/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file_io.h"

namespace hearth {

Result<DirectFile> DirectFile::open(const std::filesystem::path& path) {
  DirectFile out;
  out.path_ = path;
  out.file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  // Some file systems only say that they have no direct reads when one is tried.
  alignas(kAlignment) std::array<std::byte, kAlignment> page;
  if (!out.file_ || ::pread(out.file_.get(), page.data(), page.size(), 0) < 0)
    out.file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!out.file_ || ::fstat(out.file_.get(), &status) != 0) return disk_error(path, "open");
  out.bytes_ = static_cast<uint64_t>(status.st_size);
  return out;
}

Result<DirectFile> DirectFile::create(const std::filesystem::path& path, uint64_t bytes) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
  DirectFile out;
  out.path_ = path;
  out.bytes_ = bytes;
  out.file_ = Descriptor(::open(path.c_str(), kFlags | O_DIRECT, 0600));
  if (!out.file_) out.file_ = Descriptor(::open(path.c_str(), kFlags, 0600));
  if (!out.file_) return disk_error(path, "create");
  const uint64_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (::fallocate(out.file_.get(), 0, 0, static_cast<off_t>(whole)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return disk_error(path, "make room");
  return out;
}

Result<void> DirectFile::write(uint64_t offset, std::span<const std::byte> data) const {
  return write_at(file_.get(), offset, data, path_);
}

Result<void> DirectFile::finish() const {
  if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0) return disk_error(path_, "end");
  return {};
}

Result<void> DirectFile::read(uint64_t offset, std::span<std::byte> into) const {
  const uint64_t there = std::min<uint64_t>(into.size(), bytes_ - std::min(offset, bytes_));
  for (uint64_t done = 0; done < there;) {
    const ssize_t count =
        ::pread(file_.get(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return disk_error(path_, "read");
    if (count == 0) return fail(Code::kIo, "{}: ends at {} of {} bytes", path_.string(), offset + done, bytes_);
    done += static_cast<uint64_t>(count);
  }
  if (there == 0) return fail(Code::kIo, "{}: {} bytes; nothing at {}", path_.string(), bytes_, offset);
  return {};
}

}  // namespace hearth
