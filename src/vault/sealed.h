// Encryption at rest: bytes that nobody without the key can read, change, shorten or exchange for others.
//
// The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as Tink writes it: a key of its own for each text, by HKDF-SHA-256
// from a random salt; AES-256-GCM over segments of 1 MiB whose nonce is a random prefix, the number of the segment and whether it is the
// last. Format: "HSEAL001", salt[32], nonce prefix[7], then per segment its ciphertext and tag[16].
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vault/key.h"

namespace hearth {

// `purpose` has to be the same for unseal(): what was sealed for one purpose or owner is refused for another.
std::vector<std::byte> seal(const Key& key, std::string_view purpose, std::span<const std::byte> plain);
// kMalformed if it is no sealed text, kCorrupt if it is damaged, cut short, or of another key or purpose.
Result<std::vector<std::byte>> unseal(const Key& key, std::string_view purpose, std::span<const std::byte> sealed);

}  // namespace hearth
