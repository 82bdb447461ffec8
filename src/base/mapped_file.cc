#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file_io.h"
#include "base/mapped_guard.h"

namespace hearth {
namespace {

std::unexpected<Error> system_error(const std::filesystem::path& path, const char* action) {
  const int number = errno;
  return fail(number == ENOENT ? Code::kNotFound : Code::kIo, "{}: cannot {}: {}", path.string(), action,
              std::strerror(number));
}

Result<uint64_t> regular_file_size(int fd, const std::filesystem::path& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return system_error(path, "read its size");
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalidArgument, "{}: not a regular file", path.string());
  return static_cast<uint64_t>(status.st_size);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  return map(Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), path, false);
}

Result<MappedFile> MappedFile::open_in_use(const std::filesystem::path& path) {
  return map(Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), path, true);
}

Result<MappedFile> MappedFile::map(Descriptor fd, const std::filesystem::path& path, bool in_use) {
  if (!fd) return system_error(path, "open");
  MappedFile file;
  file.path_ = path;
  const uint64_t size = TRY(regular_file_size(fd.get(), path));
  // Before the size is trusted: nobody deletes a cached file from here on. File systems without locks go without.
  if (in_use) ::flock(fd.get(), LOCK_SH);
  if (size > 0) {
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (data == MAP_FAILED) return system_error(path, "map");
    file.data_ = static_cast<const std::byte*>(data);
    file.size_ = size;
    note_mapping(file.bytes(), path.native());
  }
  if (in_use) file.in_use_ = std::move(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)),
      in_use_(std::move(other.in_use_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  std::swap(in_use_, other.in_use_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!data_) return;
  forget_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::want_large_pages() const {
#ifdef MADV_HUGEPAGE
  if (data_) ::madvise(const_cast<std::byte*>(data_), size_, MADV_HUGEPAGE);
#endif
}

void MappedFile::release(size_t offset, size_t size) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + size) / page * page;
  if (data_ && begin < end && end <= size_)
    ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Result<std::string> read_file(const std::filesystem::path& path, uint64_t bytes_max) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return system_error(path, "open");
  const uint64_t size = TRY(regular_file_size(fd.get(), path));
  if (size > bytes_max) return fail(Code::kLimit, "{}: {} bytes, the limit is {}", path.string(), size, bytes_max);
  std::string content(size, '\0');
  for (size_t done = 0; done < content.size();) {
    const ssize_t count = ::read(fd.get(), content.data() + done, content.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(path, "read");
    if (count == 0) return fail(Code::kIo, "{}: ended at byte {} of {}", path.string(), done, size);
    done += static_cast<size_t>(count);
  }
  return content;
}

Result<void> write_file_atomically(const std::filesystem::path& path, FunctionRef<Result<void>(int fd)> fill,
                                   unsigned mode) {
  auto part = path;
  part += fmt::format(".{}.part", ::getpid());
  auto written = [&]() -> Result<void> {
    const Descriptor fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
    if (fd.get() < 0) return system_error(part, "create");
    TRY(fill(fd.get()));
    if (::fsync(fd.get()) != 0) return system_error(part, "flush");
    if (::rename(part.c_str(), path.c_str()) != 0) return system_error(path, "rename the finished file");
    return {};
  }();
  if (!written) ::unlink(part.c_str());
  return written;
}

Result<void> write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content,
                                   unsigned mode) {
  return write_file_atomically(path, [&](int fd) { return write_at(fd, 0, content, path); }, mode);
}

}  // namespace hearth
