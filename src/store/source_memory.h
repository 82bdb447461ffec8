// Digests of files that were read before, so that a model's is not computed at every start.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace hearth {

// One JSON file; it is a cache: what cannot be read or written counts as nothing. Several processes may use it (of two that
// write at once one is forgotten). The newest limits::kRememberedSources are kept.
class SourceMemory {
 public:
  // What changes when a file's content does: device, inode, size, and the times of content and inode in nanoseconds.
  using Identity = std::array<int64_t, 5>;
  static std::optional<Identity> identity(const std::filesystem::path& file);

  explicit SourceMemory(std::filesystem::path path) : path_(std::move(path)) {}
  [[nodiscard]] std::optional<std::string> find(const Identity& identity) const;
  // `file` is for people.
  void remember(const Identity& identity, const std::filesystem::path& file, const std::string& sha256) const;

 private:
  std::filesystem::path path_;
};

}  // namespace hearth
