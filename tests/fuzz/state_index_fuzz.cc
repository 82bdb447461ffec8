// The index of a saved state, as it is after it was unsealed.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "engine/state_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index = hearth::parse_state_index(std::as_bytes(std::span(data, size)));
  if (index) CHECK(index->tokens.size() * sizeof(hearth::Token) <= size && index->state_bytes > 0);
  return 0;
}
