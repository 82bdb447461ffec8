// The cache of packs: one file per model and layout, made on first use and deleted at will, for it can be made again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"

namespace hearth {

// A pack on its way in: a file of its own that nobody else writes, deleted unless published.
class PackClaim {
 public:
  PackClaim(PackClaim&&) noexcept = default;
  PackClaim& operator=(PackClaim&&) = delete;
  ~PackClaim();
  [[nodiscard]] int fd() const { return lock_.get(); }
  [[nodiscard]] const std::filesystem::path& path() const { return part_; }

 private:
  friend class PackCache;
  PackClaim(Descriptor lock, std::filesystem::path part) : lock_(std::move(lock)), part_(std::move(part)) {}
  Descriptor lock_;
  std::filesystem::path part_;
  bool published_ = false;
};

struct CachedPack {
  std::filesystem::path path;
  std::string source_sha256;  // from its name
  uint64_t bytes = 0;
  int64_t last_use = 0;  // seconds since 1970
  bool in_use = false;
};

// Layout under the folder:
//   <source digest>-<layout>.pack        whole, never changed in place; a shared lock on it: in use; its time: last used
//   <source digest>-<layout>.json        what was measured of that pack
//   <source digest>-<layout>.exits       exit heads fitted for that pack
//   <source digest>-<layout>.pack.part   being written by whoever holds an exclusive lock on it, or left behind
//   sources.json                         digests of files by device, inode, size and times
//   limit                                bytes that all packs may take, as a decimal number
// Several processes may use one cache; within a process, any thread.
class PackCache {
 public:
  // Makes the folder if it is missing. `models`: the folder of a store's models, whose manifests say digests; may be empty.
  static Result<PackCache> open(const std::filesystem::path& folder, const std::filesystem::path& models);

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

  // The digest of a model: of one file its SHA-256; of several the SHA-256 of what sha256sum prints for them in the order of
  // their names. Files are read only if they are not those that were read before. `progress` gets bytes read; false cancels.
  [[nodiscard]] Result<std::string> source_digest(std::span<const std::filesystem::path> files,
                                                  const std::function<bool(uint64_t)>& progress) const;
  // The place of a pack, there or not.
  [[nodiscard]] std::filesystem::path place(std::string_view source_digest, std::string_view layout) const;

  // The file that keeps what was measured of a pack, there or not, and goes when the pack goes. Empty for one elsewhere.
  [[nodiscard]] std::filesystem::path notes(const std::filesystem::path& pack) const;

  // Likewise, for exit heads (model/exits.h).
  [[nodiscard]] std::filesystem::path exits(const std::filesystem::path& pack) const;

  // The right to write a pack, an empty file; waits while another process writes the same one, which may then be there.
  // Deletes what other imports left behind.
  [[nodiscard]] Result<PackClaim> claim(const std::filesystem::path& pack) const;
  // Flushes and moves the claimed file into place; others see it whole. It is in use until the claim ends.
  Result<void> publish(PackClaim& claim, const std::filesystem::path& pack) const;
  // Notes that a pack is used now.
  void touch(const std::filesystem::path& pack) const;

  [[nodiscard]] std::vector<CachedPack> list() const;  // the last used first
  // Whatever was set, else a quarter of the disk.
  [[nodiscard]] uint64_t limit_bytes() const;
  [[nodiscard]] Result<void> set_limit(uint64_t bytes) const;
  // Deletes packs that were not used for longest until the rest keeps to the limit; never one in use. Gives their bytes.
  [[nodiscard]] uint64_t keep_limit() const { return shrink_to(limit_bytes()); }
  [[nodiscard]] uint64_t shrink_to(uint64_t bytes) const;
  // Deletes the packs of a source, except one in use and `keep`.
  void remove(std::string_view source_digest, const std::filesystem::path& keep = {}) const;

 private:
  PackCache(std::filesystem::path folder, std::filesystem::path models)
      : folder_(std::move(folder)), models_(std::move(models)) {}
  [[nodiscard]] Result<std::string> file_digest(const std::filesystem::path& file,
                                                const std::function<bool(uint64_t)>& progress) const;
  [[nodiscard]] std::optional<std::string> stored_digest(const std::filesystem::path& file) const;
  void delete_leftovers() const;

  std::filesystem::path folder_, models_;
};

}  // namespace hearth
