// Finding scales for one block: a plain search of a few candidates for the smallest weighted squared error.
// Weights are x^2 (symmetric) or 1 (with minimum): large weights of a model matter more than their count.
#pragma once

#include "tensor/quant/codec.h"

namespace hearth::quant {

// The scale s for which s * q, q an integer of [lo, hi], is nearest to the n floats. May be negative; 0 if all are 0.
float best_scale(const float* x, int n, int lo, int hi);

// The scale and the minimum (both >= 0) for which scale * q - min, q of [0, hi], is nearest to the n floats.
struct ScaleMin {
  float scale = 0, min = 0;
};
ScaleMin best_scale_min(const float* x, int n, int hi);

// The index whose table value times `scale` is nearest to x; the table ascends.
uint8_t nearest_index(const std::array<int8_t, 16>& table, float x, float inverse_scale);
// The scale for which the table fits the n floats best.
float best_table_scale(const float* x, int n, const std::array<int8_t, 16>& table);

// The code whose value is nearest to x, of formats with codes of up to 6 bits and nested ones; the inverse of
// element_scale().
uint8_t nearest_code(const PanelFormat& format, float x, float inverse_scale);

// For formats with super scales: fills d, the integer scales of `range` and the codes of the first out.n elements of a
// super block from the float scale of each block (and its minimum, if the format has one; integer minimums are of
// [0, range.hi]).
void choose_super(const PanelFormat& format, const float* x, const float* scales, const float* mins, ScaleRange range,
                  Parts out);

// The value of the non-linear 4-bit code, shared by IQ4_NL and IQ4_XS.
inline constexpr std::array<int8_t, 16> kIq4Table = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace hearth::quant
