// Encryption at rest: bytes that nobody without the key can read, change, shorten or exchange for others.
//
// The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as Tink writes it: a key of its own for each text, by HKDF-SHA-256
// from a random salt; AES-256-GCM over segments whose nonce is a random prefix, the number of the segment and whether it is the last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vault/key.h"

namespace hearth {

// One text, segment by segment, in any order and from any thread. How long segments are and which is the last is the user's to know.
class Sealer {
 public:
  static constexpr size_t kHeaderBytes = 47, kTagBytes = 16;  // header: "HSEAL001", salt[32], nonce prefix[7]

  // A new text. `purpose` has to be the same for open(): what was sealed for one purpose or owner is refused for another.
  Sealer(const Key& key, std::string_view purpose);
  // One that was sealed, by its header; kMalformed if it is none.
  static Result<Sealer> open(const Key& key, std::string_view purpose, std::span<const std::byte> header);

  [[nodiscard]] std::span<const std::byte, kHeaderBytes> header() const { return header_; }
  // `out` has kTagBytes more than `plain`, and may begin where it does.
  void seal(uint32_t segment, bool last, std::span<const std::byte> plain, std::span<std::byte> out) const;
  // `out` has kTagBytes less than `sealed`, and may begin where it does. kCorrupt if a bit of it is not as it was sealed.
  Result<void> unseal(uint32_t segment, bool last, std::span<const std::byte> sealed, std::span<std::byte> out) const;

 private:
  using Header = std::array<std::byte, kHeaderBytes>;
  Sealer(const Key& key, std::string_view purpose, const Header& header);

  Header header_;
  Key own_;
};

// A whole text: the header, then segments of 1 MiB, each followed by its tag.
std::vector<std::byte> seal(const Key& key, std::string_view purpose, std::span<const std::byte> plain);
// kMalformed if it is no sealed text, kCorrupt if it is damaged, cut short, or of another key or purpose.
Result<std::vector<std::byte>> unseal(const Key& key, std::string_view purpose, std::span<const std::byte> sealed);

}  // namespace hearth
