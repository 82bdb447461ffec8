// JSON from outside: parsed with limits, errors as values.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string_view>

#include "base/limits.h"
#include "base/result.h"

namespace hearth {

struct JsonLimits {
  uint64_t depth = limits::kJsonDepth;
  uint64_t bytes = limits::kJsonFileBytes;
};

// The value of a JSON text. kLimit if it is longer or deeper than allowed, kMalformed with the position if it is no
// JSON. Of a key that comes twice the last value counts. Memory: a small multiple of the text.
Result<boost::json::value> parse_json(std::string_view text, JsonLimits limits = {});

}  // namespace hearth
