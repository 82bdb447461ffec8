#include "text/charsmap.h"

#include "base/limits.h"

namespace hearth {
namespace {

uint32_t little_endian(std::string_view data, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<uint8_t>(data[at + i])) << (8 * i);
  return value;
}

// The parts of a unit of the double array.
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & ((1u << 31) | 0xFF); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }

}  // namespace

Result<Charsmap> Charsmap::create(std::string_view data) {
  Charsmap map;
  if (data.empty()) return map;
  if (data.size() < 4) return fail(Code::kMalformed, "precompiled charsmap: {} bytes, its header has 4", data.size());
  const uint64_t n_bytes = little_endian(data, 0);
  if (n_bytes % 4 != 0 || n_bytes == 0 || n_bytes + 4 >= data.size()) {
    return fail(Code::kMalformed, "precompiled charsmap: an array of {} bytes in {} bytes", n_bytes, data.size());
  }
  for (size_t at = 4; at < n_bytes + 4; at += 4) map.units_.push_back(little_endian(data, at));
  map.replacements_ = data.substr(n_bytes + 4);
  if (map.replacements_.back() != '\0')
    return fail(Code::kMalformed, "precompiled charsmap: its last text does not end");
  for (size_t at = 0; at < map.replacements_.size();) {
    const size_t end = map.replacements_.find('\0', at);
    if (end - at > limits::kReplacementBytes) {
      return fail(Code::kLimit, "precompiled charsmap: a replacement of {} bytes, the limit is {}", end - at,
                  limits::kReplacementBytes);
    }
    at = end + 1;
  }
  return map;
}

Charsmap::Match Charsmap::longest(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size() && i < limits::kReplacementBytes; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) break;
    const size_t at = value_of(units_[node]);
    if (at >= replacements_.size()) break;
    match = {i + 1, std::string_view(replacements_.c_str() + at)};
  }
  return match;
}

}  // namespace hearth
