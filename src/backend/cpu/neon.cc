// The table for any ARMv8 machine, and the loops over single rows.
#if defined(__aarch64__)
#include "backend/cpu/neon.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/neon_math.h"
#include "backend/cpu/neon_matmul.h"
#include "tensor/float16.h"

namespace hearth::cpu::neon {
namespace {

inline uint32x4_t magnitude(const float* x) {
  return vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x)), vdupq_n_u32(0x7fffffff));
}

// 16 floats, scaled and rounded to the nearest even integer.
inline int8x16_t rounded(const float* x, float inverse) {
  int16x4_t parts[4];
  for (int i = 0; i < 4; ++i) parts[i] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse)));
  return vcombine_s8(vmovn_s16(vcombine_s16(parts[0], parts[1])), vmovn_s16(vcombine_s16(parts[2], parts[3])));
}

// One group of 32: codes, the sums of its halves, and the scale.
float quantize_group(const float* x, int8_t* codes, int16_t* sums) {
  uint32x4_t largest = magnitude(x);
  for (int i = 4; i < kGroup; i += 4) largest = vmaxq_u32(largest, magnitude(x + i));
  const uint32_t bits = vmaxvq_u32(largest);
  const float amax = std::bit_cast<float>(bits);
  const bool finite = bits < 0x7f800000u;
  if (!finite || amax < kQuantizeMin) {
    std::memset(codes, 0, kGroup);
    sums[0] = sums[1] = 0;
    return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float inverse = 127.0f / amax;
  for (int half = 0; half < 2; ++half) {
    const int8x16_t bytes_of_half = rounded(x + 16 * half, inverse);
    vst1q_s8(codes + 16 * half, bytes_of_half);
    sums[half] = vaddlvq_s8(bytes_of_half);
  }
  return amax / 127.0f;
}

// Up to 4 floats; the rest are zeros.
inline float32x4_t load_part(const float* at, int64_t n) {
  if (n >= 4) return vld1q_f32(at);
  float lanes[4] = {};
  std::memcpy(lanes, at, static_cast<size_t>(n) * sizeof(float));
  return vld1q_f32(lanes);
}
inline void store_part(float* at, int64_t n, float32x4_t value) {
  if (n >= 4) return vst1q_f32(at, value);
  float lanes[4];
  vst1q_f32(lanes, value);
  std::memcpy(at, lanes, static_cast<size_t>(n) * sizeof(float));
}

constexpr auto kEntries = entries<Multiply::kLong>();
std::span<const MatmulEntry> matmul_entries() { return kEntries; }
bool always() { return true; }

}  // namespace

void quantize_rows(const float* x, int64_t x_stride, int m, const QuantizedRows& out) {
  for (int64_t r = 0; r < m; ++r) {
    const QuantizedRows row = out.from_row(r);
    for (int64_t g = 0; g < out.k / kGroup; ++g) {
      int16_t* sums = row.sums + 2 * g * out.m;
      const float scale = quantize_group(x + r * x_stride + g * kGroup, row.codes + g * kGroup, sums);
      row.scales[g * out.m] = scale;
      row.scaled_sums[g * out.m] = static_cast<float>(sums[0] + sums[1]) * scale;
    }
  }
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  float32x4_t low = vdupq_n_f32(0.0f), high = low;
  for (int64_t i = 0; i < n; i += 8) {  // the lanes beyond n add 0 * 0
    const float32x4_t first = load_part(x + i, n - i);
    low = vfmaq_f32(low, first, first);
    if (n - i <= 4) continue;
    const float32x4_t second = load_part(x + i + 4, n - i - 4);
    high = vfmaq_f32(high, second, second);
  }
  const float r = 1.0f / std::sqrt(sum_lanes(low, high) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; i += 4)
    store_part(out + i, n - i, vmulq_f32(vmulq_n_f32(load_part(x + i, n - i), r), load_part(weight + i, n - i)));
}

void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 4) {
    const float32x4_t x = load_part(gate + i, n - i);
    const float32x4_t act = activation == Activation::kSilu ? silu4(x) : gelu_tanh4(x);
    store_part(out + i, n - i, vmulq_f32(act, load_part(up + i, n - i)));
  }
}

void f32_to_f16(const float* in, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
  for (; i < n; ++i) out[i] = hearth::f32_to_f16(in[i]);
}

}  // namespace hearth::cpu::neon

namespace hearth::cpu {

constinit const Kernels kNeon = neon::table("neon", neon::always, neon::matmul_entries);

}  // namespace hearth::cpu
#endif
