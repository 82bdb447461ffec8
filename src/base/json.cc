#include "base/json.h"

#include <boost/json/error.hpp>
#include <boost/json/stream_parser.hpp>
#include <exception>

namespace hearth {

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
    return parser.release();
  } catch (const std::exception& exception) {
    return fail(Code::kLimit, "JSON of {} bytes: {}", text.size(), exception.what());
  }
}

}  // namespace hearth
