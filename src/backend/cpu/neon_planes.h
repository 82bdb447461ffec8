// Reading panels with 128-bit vectors: what the ARMv8 products share. A vector holds 4 rows, so a panel is two halves of
// rows. Included inside a target region; all is in an unnamed namespace, so that the compilations do not meet.
#pragma once

#include <arm_neon.h>

#include <array>
#include <utility>

#include "backend/cpu/formats.h"
#include "backend/cpu/kernels.h"

namespace hearth::cpu::neon {
namespace {

constexpr int kSteps = kGroup / 4;
constexpr int kHalves = 2;  // rows 0 to 3 and 4 to 7 of a panel

// f(0), f(1), ... f(n - 1), each with its number as a constant.
template <int n, class Function>
[[gnu::always_inline]] inline void each(Function f) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (f(std::integral_constant<int, i>()), ...);
  }(std::make_integer_sequence<int, n>());
}

inline const uint8_t* bytes(const std::byte* at) { return reinterpret_cast<const uint8_t*>(at); }
inline uint8_t* bytes(std::byte* at) { return reinterpret_cast<uint8_t*>(at); }

struct Floats {
  float32x4_t half[kHalves];
};

inline Floats load_floats(const std::byte* at) {
  return {{vreinterpretq_f32_u8(vld1q_u8(bytes(at))), vreinterpretq_f32_u8(vld1q_u8(bytes(at) + 16))}};
}
inline void store_floats(std::byte* at, const Floats& floats) {
  for (int half = 0; half < kHalves; ++half) vst1q_u8(bytes(at) + 16 * half, vreinterpretq_u8_f32(floats.half[half]));
}
inline Floats load_halves(const std::byte* at) {
  const float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(bytes(at)));
  return {{vcvt_f32_f16(vget_low_f16(halves)), vcvt_f32_f16(vget_high_f16(halves))}};
}

template <int right>
inline uint8x16_t shifted(uint8x16_t value) {
  if constexpr (right > 0) return vshrq_n_u8(value, right);
  if constexpr (right < 0) return vshlq_n_u8(value, -right);
  return value;
}

// An object of its own: clang 19 fails on the address of a part of a template parameter.
template <PanelFormat F>
struct Table {
  alignas(16) static constexpr std::array<int8_t, 16> kBytes = F.table;
};

// The codes of step j as they are stored (8-bit, nested and table values signed), of the half of the rows that `planes` is
// at; `low` is at all rows.
template <PanelFormat F, int j>
inline int8x16_t codes_at(const std::byte* planes, [[maybe_unused]] const std::byte* low, [[maybe_unused]] int half) {
  constexpr int kLow = F.bits == 8 ? 8 : F.bits >= 4 ? 4 : 2, kHigh = F.bits - kLow;
  uint8x16_t code = shifted<kLow*(j / kLow)>(vld1q_u8(bytes(planes) + 32 * (j % kLow)));
  if constexpr (kLow * (j / kLow + 1) < 8) code = vandq_u8(code, vdupq_n_u8((1 << kLow) - 1));
  if constexpr (kHigh > 0) {
    const uint8x16_t high = vld1q_u8(bytes(planes) + 32 * (kLow + j % kHigh));
    code = vbslq_u8(vdupq_n_u8(((1 << kHigh) - 1) << kLow), shifted<kHigh*(j / kHigh) - kLow>(high), code);
  }
  if constexpr (F.has_low) {
    const uint8x16_t fine = shifted<4 * (j / 4)>(vld1q_u8(bytes(low) + 16 * half + 32 * (j % 4)));
    const uint8x16_t both = vmlaq_u8(j < 4 ? vandq_u8(fine, vdupq_n_u8(15)) : fine, code, vdupq_n_u8(8));
    return vreinterpretq_s8_u8(vsubq_u8(both, vdupq_n_u8(formats::kNestedZero)));
  }
  if constexpr (F.has_table) return vqtbl1q_s8(vld1q_s8(Table<F>::kBytes.data()), code);
  return vreinterpretq_s8_u8(code);
}

struct Factors {
  Floats d, m;
};

// 2^(e - 128); the two smallest are subnormal.
inline float32x4_t exponents(uint16x4_t narrow) {
  const uint32x4_t e = vmovl_u16(narrow);
  const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
  const uint32x4_t tiny = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
  return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), tiny, normal));
}

// From a group (or the header of a format with super scales).
template <PanelFormat F>
inline Factors factors_at(const std::byte* at) {
  Factors out{};
  if constexpr (F.scale == ScaleKind::kE8M0) {
    const uint16x8_t e = vmovl_u8(vld1_u8(bytes(at)));
    out.d = {{exponents(vget_low_u16(e)), exponents(vget_high_u16(e))}};
  } else {
    out.d = load_halves(at);
    if constexpr (F.has_low)
      for (float32x4_t& half : out.d.half) half = vmulq_n_f32(half, 0.25f);
  }
  if constexpr (F.has_min) {
    out.m = load_halves(at + 2 * kPanelRows);
    if constexpr (F.has_super())
      for (float32x4_t& half : out.m.half) half = vnegq_f32(half);
  }
  return out;
}

struct Ints {
  int32x4_t half[kHalves];
};

// Super scales and minimums of one block.
template <PanelFormat F>
inline Ints scale_at(const std::byte* group, int block) {
  const uint8x8_t narrow = vld1_u8(bytes(group) + block * kPanelRows);
  const int16x8_t scale =
      F.scale == ScaleKind::kSuperI8 ? vmovl_s8(vreinterpret_s8_u8(narrow)) : vreinterpretq_s16_u16(vmovl_u8(narrow));
  return {{vmovl_s16(vget_low_s16(scale)), vmovl_s16(vget_high_s16(scale))}};
}
template <PanelFormat F>
inline Floats min_at(const std::byte* group, int block) {
  const uint16x8_t min = vmovl_u8(vld1_u8(bytes(group) + (F.blocks_per_group() + block) * kPanelRows));
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(min))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(min)))}};
}

// Adds bias and what was there, and writes the rows of one half that exist. By value: sums stay in registers.
inline void finish_half(const MatmulArgs& args, int64_t row, int64_t column, float32x4_t sum) {
  float* out = args.out + column * args.out_stride + row;
  if (row + 4 <= args.rows) {
    if (args.epilogue.bias) sum = vaddq_f32(sum, vld1q_f32(args.epilogue.bias + row));
    if (args.epilogue.accumulate) sum = vaddq_f32(vld1q_f32(out), sum);
    return vst1q_f32(out, sum);
  }
  float lanes[4];
  vst1q_f32(lanes, sum);
  for (int64_t i = 0; i < args.rows - row; ++i) {
    const float value = args.epilogue.bias ? lanes[i] + args.epilogue.bias[row + i] : lanes[i];
    out[i] = args.epilogue.accumulate ? out[i] + value : value;
  }
}
inline void finish(const MatmulArgs& args, int64_t panel, int64_t column, float32x4_t low, float32x4_t high) {
  finish_half(args, panel * kPanelRows, column, low);
  finish_half(args, panel * kPanelRows + 4, column, high);
}

}  // namespace
}  // namespace hearth::cpu::neon
