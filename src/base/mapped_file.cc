#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace hearth {
namespace {

// Closes a file descriptor at the end of the scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

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
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error(path, "open");
  MappedFile file;
  file.path_ = path;
  file.size_ = TRY(regular_file_size(fd.get(), path));
  if (file.size_ == 0) return file;
  void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    file.size_ = 0;
    return system_error(path, "map");
  }
  file.data_ = static_cast<const std::byte*>(data);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
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
  if (fd.get() < 0) return system_error(path, "open");
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

Result<void> write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> content) {
  auto part = path;
  part += fmt::format(".{}.part", ::getpid());
  {
    const Descriptor fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0) return system_error(part, "create");
    for (size_t done = 0; done < content.size();) {
      const ssize_t count = ::write(fd.get(), content.data() + done, content.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        auto error = system_error(part, "write");
        ::unlink(part.c_str());
        return error;
      }
      done += static_cast<size_t>(count);
    }
    if (::fsync(fd.get()) != 0) {
      auto error = system_error(part, "flush");
      ::unlink(part.c_str());
      return error;
    }
  }
  if (::rename(part.c_str(), path.c_str()) != 0) {
    auto error = system_error(path, "rename the finished file");
    ::unlink(part.c_str());
    return error;
  }
  return {};
}

}  // namespace hearth
