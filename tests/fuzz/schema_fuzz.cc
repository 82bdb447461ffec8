// JSON schemas as a client sends them.
#include <string_view>

#include "base/json.h"
#include "fuzz/constrained_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto schema = hearth::parse_json({reinterpret_cast<const char*>(data), size});
  if (!schema) return 0;
  hearth::walk(hearth::Grammar::from_json_schema(*schema, {.space = hearth::JsonSpace::kIndent}));
  return 0;
}
