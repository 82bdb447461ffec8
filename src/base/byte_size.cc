#include "base/byte_size.h"

#include <fmt/format.h>

#include <charconv>

#include "base/checked.h"
#include "base/limits.h"

namespace hearth {
namespace {

std::string scaled(uint64_t bytes, double base, const char* const* units) {
  double value = static_cast<double>(bytes);
  int step = 0;
  for (; value >= base && step < 4; ++step) value /= base;
  return step == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.{}f} {}", value, value < 100 ? 1 : 0, units[step]);
}

}  // namespace

std::string human_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  return scaled(bytes, 1000, kUnits);
}

std::string human_memory(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  return scaled(bytes, 1024, kUnits);
}

Result<uint64_t> parse_size(std::string_view name, std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const uint64_t step = unit.ends_with("iB") ? 1024 : 1000;
  if (step == 1024) unit.remove_suffix(2);
  Checked bytes(number);
  const size_t power = unit.size() == 1 ? kUnits.find(unit.front()) : kUnits.npos;
  for (size_t i = 0; power != kUnits.npos && i <= power; ++i) bytes = bytes * step;
  if (error != std::errc() || (power == kUnits.npos && !unit.empty()) || !bytes.at_most(limits::kFileBytes))
    return fail(Code::kInvalidArgument, "{} {}: not a size such as 500M or 10G, up to {}", name, text,
                human_bytes(limits::kFileBytes));
  return *bytes.value();
}

}  // namespace hearth
