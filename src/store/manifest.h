// manifest.json: what a model in the store consists of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

struct ManifestFile {
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;  // lower-case hex
};

struct Manifest {
  std::string name;
  std::string source;  // where it was pulled from, without user, password and query
  std::vector<ManifestFile> files;
  std::string added;  // UTC, as 2026-01-31T12:00:00Z

  [[nodiscard]] uint64_t bytes() const;
};

std::string to_json(const Manifest& manifest);

// kMalformed names the field; names of model and files are checked, sizes too.
Result<Manifest> parse_manifest(std::string_view json);

}  // namespace hearth
