// The models Hearth names by an alias: where each comes from, under which licence, and what its bytes must be.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hearth {

struct KnownModel {
  std::string_view alias;  // "default", "tiny"
  std::string_view name;   // its name in the store
  std::string_view file;   // file name, in the repository and in the store
  uint64_t bytes;
  std::string_view sha256;      // lower-case hex
  std::string_view licence;     // SPDX identifier
  std::string_view repository;  // "owner/name" on the model hub
  std::string_view about;
};

std::span<const KnownModel> known_models();

// By alias or by name; null if unknown.
const KnownModel* find_known_model(std::string_view alias_or_name);

}  // namespace hearth
