// The value of one quantised element: the only place where codes, scales and minimums become a float.
// The order of the float steps is part of the formats: (d * scale) * code, then plus or minus the minimum, each step
// rounded.
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/float16.h"
#include "tensor/panel.h"

namespace hearth {

// 2^(e - 128), the scale of MXFP4 whose codes are doubled to integers; e = 0 and 1 are subnormal floats.
constexpr float e8m0_half_to_f32(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

// The integer a code stands for.
constexpr int element_integer(const PanelFormat& format, uint8_t code) {
  if (format.has_low) return 8 * (code >> 4) + (code & 15) - 68;
  if (format.has_table) return format.table[code & 15];
  return (format.bits == 8 ? static_cast<int8_t>(code) : code) - format.zero;
}

// The float scale of a block from its stored scale and, for super scales, the f16 above it.
constexpr float element_scale(const PanelFormat& format, uint16_t scale, uint16_t d) {
  switch (format.scale) {
    case ScaleKind::kSuperU8:
      return f16_to_f32(d) * static_cast<float>(scale & 0xff);
    case ScaleKind::kSuperI8:
      return f16_to_f32(d) * (format.has_low ? 0.25f : 1.0f) * static_cast<float>(static_cast<int8_t>(scale));
    case ScaleKind::kE8M0:
      return e8m0_half_to_f32(static_cast<uint8_t>(scale));
    default:
      return f16_to_f32(scale);
  }
}

// What is added to (kF16) or subtracted from (super scales) every product of a block.
constexpr float element_min(const PanelFormat& format, uint16_t min, uint16_t dmin) {
  return format.has_super() ? f16_to_f32(dmin) * static_cast<float>(min & 0xff) : f16_to_f32(min);
}

constexpr float element_value(const PanelFormat& format, int integer, float scale, float min) {
  const float product = scale * static_cast<float>(integer);
  if (!format.has_min) return product;
  return format.has_super() ? product - min : product + min;
}

}  // namespace hearth
