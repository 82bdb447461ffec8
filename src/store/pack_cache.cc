#include "store/pack_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/file_io.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "store/manifest.h"
#include "store/sha256.h"
#include "store/source_memory.h"

namespace hearth {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kExtension = ".pack", kPart = ".part", kLimitFile = "limit", kNotes = ".json",
                           kExits = ".exits";

// Deletes a file unless someone holds a lock on it.
bool delete_unused(const fs::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  return fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && ::unlink(path.c_str()) == 0;
}

bool delete_pack(const fs::path& pack) {
  if (!delete_unused(pack)) return false;
  for (const std::string_view beside : {kNotes, kExits}) ::unlink(fs::path(pack).replace_extension(beside).c_str());
  return true;
}

bool is_same_file(int fd, const fs::path& path) {
  struct stat ours{}, there{};
  return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

}  // namespace

PackClaim::~PackClaim() {
  if (lock_ && !published_) ::unlink(part_.c_str());
}

Result<PackCache> PackCache::open(const fs::path& folder, const fs::path& models) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(Code::kIo, "{}: cannot make the folder: {}", folder.string(), error.message());
  return PackCache(fs::absolute(folder), models);
}

// A model of the store was hashed when it came in; a file that is younger than its manifest is not what came in.
std::optional<std::string> PackCache::stored_digest(const fs::path& file) const {
  if (models_.empty() || file.parent_path().parent_path() != models_) return std::nullopt;
  const fs::path path = file.parent_path() / "manifest.json";
  std::error_code error;
  if (fs::last_write_time(file, error) > fs::last_write_time(path, error) || error) return std::nullopt;
  const auto text = read_file(path, limits::kManifestBytes);
  const auto manifest = text ? parse_manifest(*text) : std::unexpected(text.error());
  if (!manifest) return std::nullopt;
  for (const ManifestFile& each : manifest->files)
    if (each.name == file.filename()) return each.sha256;
  return std::nullopt;
}

Result<std::string> PackCache::file_digest(const fs::path& file, const std::function<bool(uint64_t)>& progress) const {
  if (auto stored = stored_digest(file)) return *stored;
  std::error_code error;
  const fs::path real = fs::canonical(file, error);
  if (error) return fail(Code::kIo, "{}: {}", file.string(), error.message());
  const SourceMemory memory(folder_ / "sources.json");
  const auto before = SourceMemory::identity(real);
  if (before)
    if (auto known = memory.find(*before)) return *known;
  const std::string digest = TRY(sha256_of_file(real, progress));
  if (before && SourceMemory::identity(real) == before) memory.remember(*before, real, digest);
  return digest;
}

Result<std::string> PackCache::source_digest(std::span<const fs::path> files,
                                             const std::function<bool(uint64_t)>& progress) const {
  uint64_t done_bytes = 0;
  std::vector<std::pair<std::string, std::string>> digests;
  for (const fs::path& file : files) {
    auto show = [&](uint64_t bytes) { return !progress || progress(done_bytes + bytes); };
    digests.emplace_back(file.filename().string(), TRY(file_digest(file, show)));
    std::error_code error;
    done_bytes += fs::file_size(file, error);
  }
  if (digests.size() == 1) return digests.front().second;
  std::ranges::sort(digests);
  Sha256 all;
  for (const auto& [name, digest] : digests) {
    const std::string line = digest + "  " + name + "\n";
    all.update(std::as_bytes(std::span(line)));
  }
  return all.hex();
}

fs::path PackCache::place(std::string_view source_digest, std::string_view layout) const {
  return folder_ / fmt::format("{}-{}{}", source_digest, layout, kExtension);
}

fs::path PackCache::notes(const fs::path& pack) const {
  if (pack.parent_path() != folder_ || pack.extension() != kExtension) return {};
  return fs::path(pack).replace_extension(kNotes);
}

fs::path PackCache::exits(const fs::path& pack) const {
  const fs::path beside = notes(pack);
  return beside.empty() ? beside : fs::path(pack).replace_extension(kExits);
}

Result<PackClaim> PackCache::claim(const fs::path& pack) const {
  fs::path part = pack;
  part += kPart;
  for (bool said = false;;) {
    Descriptor lock(::open(part.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!lock) return disk_error(part, "create");
    const bool locked = ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK && errno != EINTR) return disk_error(part, "lock");
    if (!locked) {
      // Not a wait for the lock: once the file is in its place it stays locked as long as it is mapped.
      if (!std::exchange(said, true)) LOG(kInfo, "{}: waiting for whoever imports the same model", pack.string());
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    // Whoever held it may have moved it into place or deleted it.
    if (!is_same_file(lock.get(), part)) continue;
    PackClaim claim(std::move(lock), std::move(part));
    if (::ftruncate(claim.fd(), 0) != 0) return disk_error(claim.path(), "empty");
    delete_leftovers();
    return claim;
  }
}

void PackCache::delete_leftovers() const {
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == kPart) delete_unused(entry->path());
}

Result<void> PackCache::publish(PackClaim& claim, const fs::path& pack) const {
  if (::fsync(claim.fd()) != 0) return disk_error(claim.path(), "flush");
  if (::rename(claim.path().c_str(), pack.c_str()) != 0) return disk_error(pack, "move the pack into place");
  claim.published_ = true;
  ::flock(claim.fd(), LOCK_SH);  // in use from now on, no longer being written
  return flush(folder_);
}

void PackCache::touch(const fs::path& pack) const { ::utimensat(AT_FDCWD, pack.c_str(), nullptr, 0); }

std::vector<CachedPack> PackCache::list() const {
  std::vector<CachedPack> packs;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    struct stat status{};
    if (path.extension() != kExtension || name.size() < 64 || ::lstat(path.c_str(), &status) != 0 ||
        !S_ISREG(status.st_mode))
      continue;
    const Descriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    packs.push_back({.path = path,
                     .source_sha256 = name.substr(0, 64),
                     .bytes = static_cast<uint64_t>(status.st_size),
                     .last_use = status.st_mtim.tv_sec,
                     .in_use = fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0});
  }
  std::ranges::sort(packs, std::greater(), [](const CachedPack& each) { return std::pair(each.last_use, each.path); });
  return packs;
}

uint64_t PackCache::limit_bytes() const {
  uint64_t limit = 0;
  const auto text = read_file(folder_ / kLimitFile, 64);
  if (text && std::from_chars(text->data(), text->data() + text->size(), limit).ec == std::errc()) return limit;
  std::error_code error;
  const fs::space_info disk = fs::space(folder_, error);
  return error ? 0 : disk.capacity / 4;
}

Result<void> PackCache::set_limit(uint64_t bytes) const {
  const std::string text = std::to_string(bytes);
  return write_file_atomically(folder_ / kLimitFile, std::as_bytes(std::span(text)));
}

uint64_t PackCache::shrink_to(uint64_t bytes) const {
  std::vector<CachedPack> packs = list();
  uint64_t total = 0, deleted = 0;
  for (const CachedPack& pack : packs) total += pack.bytes;
  for (auto oldest = packs.rbegin(); oldest != packs.rend() && total - deleted > bytes; ++oldest)
    if (delete_pack(oldest->path)) deleted += oldest->bytes;
  return deleted;
}

void PackCache::remove(std::string_view source_digest, const fs::path& keep) const {
  for (const CachedPack& pack : list())
    if (pack.source_sha256 == source_digest && pack.path != keep) delete_pack(pack.path);
}

}  // namespace hearth
