// Element-wise steps on one row, as plain loops: short beside the products, and the same bits from any compiler.
#pragma once

#include <cstdint>

#include "backend/cpu/math8.h"

namespace hearth::cpu {

// x += scale * y
inline void add_scaled(float* x, const float* y, int64_t n, float scale) {
  if (scale == 1.0f) {
    for (int64_t i = 0; i < n; ++i) x[i] += y[i];
  } else {
    for (int64_t i = 0; i < n; ++i) x[i] += scale * y[i];
  }
}

// x = cap * tanh(x * scale / cap), or x * scale with cap 0
inline void scale_capped(float* x, int64_t n, float scale, float cap) {
  if (cap != 0.0f) {
    for (int64_t i = 0; i < n; ++i) x[i] = cap * tanh_f32(x[i] * scale / cap);
  } else if (scale != 1.0f) {
    for (int64_t i = 0; i < n; ++i) x[i] *= scale;
  }
}

}  // namespace hearth::cpu
