// A secret of 256 bits, kept in a file that only its owner may read.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth {

// Wiped when it goes. Immutable: any thread may use it.
class Key {
 public:
  static constexpr size_t kBytes = 32;

  // The key in a file; made from the system's random source if the file is missing. Refused (kInvalidArgument, with what to do) if others
  // may read the file.
  static Result<Key> load_or_create(const std::filesystem::path& path);
  static Result<Key> from_bytes(std::span<const std::byte> bytes);
  Key(const Key&) = default;
  Key& operator=(const Key&) = default;
  ~Key();

  // HMAC-SHA-256, as 64 hex digits: a name for `text` that says nothing about it to who has no key.
  [[nodiscard]] std::string name_of(std::string_view text) const;
  // HKDF-SHA-256 (RFC 5869): another key for each purpose and salt.
  [[nodiscard]] Key derive(std::string_view purpose, std::span<const std::byte> salt) const;
  [[nodiscard]] std::span<const std::byte, kBytes> bytes() const { return bytes_; }

 private:
  Key() = default;
  std::array<std::byte, kBytes> bytes_{};
};

// Bytes from the system's random source. CHECKs that it has some: there is nothing to go on with otherwise.
void fill_random(std::span<std::byte> out);

}  // namespace hearth
