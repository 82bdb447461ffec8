#include "store/import.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "base/file_io.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "store/model_name.h"
#include "store/sha256.h"

namespace hearth {
namespace fs = std::filesystem;
namespace {

Result<Descriptor> lock_name(const fs::path& path, const std::function<bool()>& waiting) {
  Descriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!lock) return disk_error(path, "open the lock");
  while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return disk_error(path, "lock");
    if (!waiting()) return fail(Code::kBusy, "another process is pulling the same model");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return lock;
}

// A real folder, made if missing; a link in its place could lead anywhere.
Result<void> ensure_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return disk_error(path, "make the folder");
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return disk_error(path, "look at it");
  if (!S_ISDIR(status.st_mode)) return fail(Code::kCorrupt, "{}: not a folder; remove it and try again", path.string());
  return {};
}

Result<void> check_expected(const ExpectedFile& file, const ManifestFile& found) {
  if (file.bytes && *file.bytes != found.bytes) {
    return fail(Code::kCorrupt, "{}: {} bytes instead of {}; it was deleted, the same command fetches it again",
                file.name, found.bytes, *file.bytes);
  }
  if (file.sha256.empty() || file.sha256 == found.sha256) return {};
  return fail(Code::kCorrupt, "{}: SHA-256 is {} instead of {}: it is damaged or another file; it was deleted",
              file.name, found.sha256, file.sha256);
}

}  // namespace

Import::Import(Store store, std::string name, Descriptor lock)
    : store_(std::move(store)), folder_(store_.partial() / model_folder(name)), lock_(std::move(lock)) {
  manifest_.name = std::move(name);
}

Result<Import> Import::begin(const Store& store, std::string name, const std::function<bool()>& waiting) {
  TRY(check_model_name(name));
  Descriptor lock = TRY(lock_name(store.partial() / (model_folder(name) + ".lock"), waiting));
  Import import(store, std::move(name), std::move(lock));
  TRY(ensure_folder(import.folder_));
  return import;
}

Result<fs::path> Import::part(const ExpectedFile& file) const {
  TRY(check_file_name(file.name));
  fs::path part = folder_ / (file.name + ".part");
  std::error_code error;
  const fs::path finished = folder_ / file.name;
  if (fs::exists(fs::symlink_status(finished, error))) {
    fs::rename(finished, part, error);
    if (error) return fail(Code::kIo, "{}: {}", finished.string(), error.message());
  }
  return part;
}

Result<void> Import::accept(const ExpectedFile& file, const std::function<bool(uint64_t)>& progress) {
  TRY(check_file_name(file.name));
  if (manifest_.files.size() >= limits::kModelFiles)
    return fail(Code::kLimit, "more than {} files", limits::kModelFiles);
  const bool twice = std::ranges::any_of(manifest_.files, [&](const ManifestFile& f) { return f.name == file.name; });
  if (twice) return fail(Code::kInvalidArgument, "two files of the model are called {}", file.name);
  const fs::path part = folder_ / (file.name + ".part");
  TRY(flush(part));
  ManifestFile found{file.name, 0, TRY(sha256_of_file(part, progress))};
  std::error_code error;
  found.bytes = fs::file_size(part, error);
  if (error) return fail(Code::kIo, "{}: {}", part.string(), error.message());
  if (auto checked = check_expected(file, found); !checked) {
    fs::remove(part, error);
    fs::remove(part.string() + ".state", error);
    return checked;
  }
  fs::rename(part, folder_ / file.name, error);
  if (error) return fail(Code::kIo, "{}: {}", part.string(), error.message());
  manifest_.files.push_back(std::move(found));
  return {};
}

// Left behind by earlier pulls of other files under this name.
Result<void> Import::remove_strangers() const {
  std::error_code error;
  std::vector<fs::path> strangers;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool ours = std::ranges::any_of(manifest_.files, [&](const ManifestFile& file) { return file.name == name; });
    if (!ours) strangers.push_back(entry->path());
  }
  for (const fs::path& path : strangers) {
    if (!error) fs::remove_all(path, error);
  }
  if (error) return fail(Code::kIo, "{}: {}", folder_.string(), error.message());
  return {};
}

Result<Manifest> Import::commit(std::string source) {
  manifest_.source = std::move(source);
  manifest_.added = utc_text(std::chrono::system_clock::now());
  TRY(remove_strangers());
  const std::string text = to_json(manifest_);
  TRY(write_file_atomically(folder_ / "manifest.json", std::as_bytes(std::span(text))));
  TRY(flush(folder_));
  const fs::path place = store_.folder(manifest_.name);
  if (::rename(folder_.c_str(), place.c_str()) != 0) {
    if (errno == ENOTEMPTY || errno == EEXIST) {
      return fail(Code::kInvalidArgument, "{}: something is there already; remove it (hearth rm {}) and try again",
                  place.string(), manifest_.name);
    }
    return disk_error(place, "move the model into place");
  }
  TRY(flush(store_.models()));
  return manifest_;
}

Result<void> copy_to_part(const fs::path& from, const fs::path& part, CopyMode mode,
                          const std::function<bool(uint64_t)>& progress) {
  const Descriptor source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!source) return disk_error(from, "open");
  struct stat status{};
  if (::fstat(source.get(), &status) != 0) return disk_error(from, "read its size");
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalidArgument, "{}: not a regular file", from.string());
  if (::unlink(part.c_str()) != 0 && errno != ENOENT) return disk_error(part, "remove an old part");
  if (mode == CopyMode::kLink) {
    std::error_code error;
    fs::create_hard_link(fs::canonical(from, error), part, error);
    if (error)
      return fail(Code::kIo, "{}: cannot be linked into the store: {}; leave --link out to copy it", from.string(),
                  error.message());
    return {};
  }
  const Descriptor target(::open(part.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!target) return disk_error(part, "create");
  if (::ioctl(target.get(), FICLONE, source.get()) == 0) return {};
  std::vector<std::byte> buffer(1 << 20);
  for (uint64_t offset = 0;;) {
    const size_t count = TRY(read_at(source.get(), offset, buffer, from));
    if (count == 0) return {};
    TRY(write_at(target.get(), offset, std::span(buffer).first(count), part));
    offset += count;
    if (progress && !progress(offset)) return fail(Code::kCancelled, "cancelled");
  }
}

}  // namespace hearth
