// SentencePiece's precompiled normalisation: longest known byte sequences are replaced (half-width letters, ligatures,
// ...).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

// Format: u32 size of a double array in bytes (little endian), the array's units (XOR-compressed, Kanda et al. 2018, as
// the darts-clone library lays them out), then replacement texts that end with a zero byte. Every index is checked when
// it is used.
class Charsmap {
 public:
  // Empty data is a map that replaces nothing.
  static Result<Charsmap> create(std::string_view data);

  struct Match {
    size_t n_bytes = 0;  // 0: nothing is replaced here
    std::string_view replacement;
  };
  // The longest known sequence that text begins with.
  [[nodiscard]] Match longest(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace hearth
