#include "base/file_io.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/descriptor.h"

namespace hearth {

std::unexpected<Error> disk_error(const std::filesystem::path& path, const char* action) {
  const int number = errno;
  if (number == ENOSPC || number == EDQUOT) {
    const uint64_t free = free_disk_bytes(path.parent_path()).value_or(0);
    return fail(Code::kIo,
                "{}: cannot {}: the disk is full ({} MB free); free some space or set HEARTH_HOME to another disk",
                path.string(), action, free / 1'000'000);
  }
  return fail(number == ENOENT ? Code::kNotFound : Code::kIo, "{}: cannot {}: {}", path.string(), action,
              std::strerror(number));
}

Result<void> write_at(int fd, uint64_t offset, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return disk_error(path, "write");
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

void begin_flush(int fd, uint64_t offset, uint64_t bytes) {
#ifdef SYNC_FILE_RANGE_WRITE
  ::sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(bytes), SYNC_FILE_RANGE_WRITE);
#else
  static_cast<void>(fd + offset + bytes);
#endif
}

Result<size_t> read_at(int fd, uint64_t offset, std::span<std::byte> into, const std::filesystem::path& path) {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t count = ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return disk_error(path, "read");
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return done;
}

Result<void> flush(const std::filesystem::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return disk_error(path, "open");
  if (::fsync(fd.get()) != 0) return disk_error(path, "flush");
  return {};
}

std::string utc_text(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::time_point_cast<std::chrono::seconds>(time)));
}

std::string written_utc(const std::filesystem::path& path) {
  std::error_code error;
  const auto written = std::filesystem::last_write_time(path, error);
  if (error) return {};
  const auto time = std::chrono::file_clock::to_sys(written);
  return utc_text(std::chrono::time_point_cast<std::chrono::system_clock::duration>(time));
}

Result<uint64_t> free_disk_bytes(const std::filesystem::path& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return fail(Code::kIo, "{}: {}", path.string(), std::strerror(errno));
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

}  // namespace hearth
