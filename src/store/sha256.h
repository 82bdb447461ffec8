// SHA-256 of data as it streams by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace hearth {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  // Lower-case hex; the object is used up.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads the whole file once. `progress` gets the bytes read so far and may be empty; returning false cancels
// (kCancelled).
Result<std::string> sha256_of_file(const std::filesystem::path& path,
                                   const std::function<bool(uint64_t)>& progress = {});

// True for 64 digits of lower-case hex.
bool is_sha256(std::string_view text);

}  // namespace hearth
