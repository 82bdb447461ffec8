#include "base/json.h"

#include <algorithm>
#include <boost/json/error.hpp>
#include <boost/json/stream_parser.hpp>
#include <cmath>
#include <exception>

namespace hearth {
namespace {

// Boost.JSON reads 1e999 as infinity and 0e999 as no number at all; what is written from such a value is no JSON.
// Recursion is bounded by the depth that was parsed.
bool all_finite(const boost::json::value& value) {
  if (const double* number = value.if_double()) return std::isfinite(*number);
  if (const auto* array = value.if_array()) return std::ranges::all_of(*array, all_finite);
  if (const auto* object = value.if_object())
    return std::ranges::all_of(*object, [](const auto& member) { return all_finite(member.value()); });
  return true;
}

}  // namespace

Result<boost::json::value> parse_json(std::string_view text, JsonLimits limits) {
  if (text.size() > limits.bytes) return fail(Code::kLimit, "JSON of {} bytes, limit {}", text.size(), limits.bytes);
  try {
    boost::json::parse_options options;
    options.max_depth = limits.depth;
    boost::json::stream_parser parser({}, options);
    boost::system::error_code error;
    const size_t parsed = parser.write_some(text.data(), text.size(), error);
    if (!error && parsed < text.size()) {
      return fail(Code::kMalformed, "JSON ends at byte {} of {}, something follows", parsed, text.size());
    }
    if (!error) parser.finish(error);
    if (error == boost::json::error::too_deep) {
      return fail(Code::kLimit, "JSON at byte {} is nested deeper than {}", parsed, limits.depth);
    }
    if (error) return fail(Code::kMalformed, "JSON at byte {}: {}", parsed, error.message());
    boost::json::value value = parser.release();
    if (!all_finite(value)) return fail(Code::kMalformed, "JSON holds a number too large for a double");
    return value;
  } catch (const std::exception& exception) {
    return fail(Code::kLimit, "JSON of {} bytes: {}", text.size(), exception.what());
  }
}

}  // namespace hearth
