#include "tensor/quant/all.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/checked.h"
#include "tensor/quant/codec.h"

namespace hearth {

std::span<const TypeInfo> all_types() {
  using namespace quant;
  // Local, so that it is filled on first use, whatever the order in which files are initialised.
  static const std::array kTypes = {
      kF32,  kF16,    kQ4_0,   kQ4_1, kQ5_0,  kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K,
      kQ6_K, kIQ4_NL, kIQ4_XS, kBF16, kMXFP4, kI4,   kI4S,  kI4H,  kI5,   kI6,   kI8,
  };
  return kTypes;
}

const TypeInfo* find_type(uint32_t id) {
  const auto types = all_types();
  const auto found =
      std::ranges::find_if(types, [&](const TypeInfo& t) { return static_cast<uint32_t>(t.type) == id; });
  return found == types.end() ? nullptr : &*found;
}

const TypeInfo* find_type(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
  const auto types = all_types();
  const auto found =
      std::ranges::find_if(types, [&](const TypeInfo& t) { return std::ranges::equal(t.name, name, {}, {}, upper); });
  return found == types.end() ? nullptr : &*found;
}

const TypeInfo& info(Type type) {
  const TypeInfo* found = find_type(static_cast<uint32_t>(type));
  CHECK(found != nullptr);
  return *found;
}

std::optional<uint64_t> row_bytes(const TypeInfo& type, uint64_t n) {
  const auto block = static_cast<uint64_t>(type.block);
  if (n % block != 0) return std::nullopt;
  const uint64_t supers = n / quant::kSuperBlock + (n % quant::kSuperBlock != 0 ? 1 : 0);
  return (Checked(n / block) * Checked(type.block_bytes) + Checked(supers) * Checked(type.super_bytes)).value();
}

}  // namespace hearth
