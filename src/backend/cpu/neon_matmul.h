// Matrix products for ARMv8, compiled twice: with the base instructions by neon.cc, with dot products by neon_dotprod.cc (which
// includes this inside its target region; everything is in an unnamed namespace, so that the two do not meet).
// Codes are signed bytes with the zero point taken off. A vector holds 4 rows, so a panel is two of them.
#pragma once

#include <arm_neon.h>

#include <array>
#include <cstring>

#include "backend/cpu/formats.h"
#include "backend/cpu/kernels.h"

namespace hearth::cpu::neon {
namespace {

constexpr int kSteps = kGroup / 4;
constexpr int kHalves = 2;  // rows 0 to 3 and 4 to 7 of a panel

consteval int largest_code(const PanelFormat& format) {
  int largest = format.bits == 8 ? 128 : 0;
  if (!format.has_table && format.bits < 8) {
    const int top = (1 << format.bits) - 1 - format.zero;
    largest = top > format.zero ? top : format.zero;
  }
  for (const int8_t value : format.table) {
    const int magnitude = value < 0 ? -value : value;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

template <PanelFormat F>
struct Codes {
  static constexpr int kBlockSteps = F.block / 4;
  static constexpr int kFit = 32767 / (127 * largest_code(F));  // products that add up in int16
  static constexpr int kAdds = kFit >= 8 && kBlockSteps >= 8 ? 8 : kFit >= 4 ? 4 : 2;
  static_assert(kAdds * 127 * largest_code(F) <= 32767, "an int16 sum could overflow");
  static constexpr int kBlocks = F.blocks_per_group();
  static constexpr bool kScaled = F.has_super();
  alignas(16) static constexpr std::array<int8_t, 16> kTable = F.table;
};

// A group expanded to bytes: the vectors of codes, then factors as floats, then scales and minimums of the blocks as int16.
template <PanelFormat F>
struct Expanded {
  static constexpr int kD = 32 * kSteps;
  static constexpr int kM = kD + 32;
  static constexpr int kScales = kM + (F.has_min ? 32 : 0);
  static constexpr int kMins = kScales + (F.has_super() ? 16 * Codes<F>::kBlocks : 0);
  static constexpr int kBytes = kMins + (F.has_super() && F.has_min ? 16 * Codes<F>::kBlocks : 0);
  static_assert(kBytes + 64 <= matmul_scratch_bytes(kGroup), "the scratch is too small");
};

inline const uint8_t* bytes(const std::byte* at) { return reinterpret_cast<const uint8_t*>(at); }
inline uint8_t* bytes(std::byte* at) { return reinterpret_cast<uint8_t*>(at); }

struct Floats {
  float32x4_t half[kHalves];
};

inline Floats load_floats(const std::byte* at) {
  return {{vreinterpretq_f32_u8(vld1q_u8(bytes(at))), vreinterpretq_f32_u8(vld1q_u8(bytes(at) + 16))}};
}
inline Floats load_halves(const std::byte* at) {
  const float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(bytes(at)));
  return {{vcvt_f32_f16(vget_low_f16(halves)), vcvt_f32_f16(vget_high_f16(halves))}};
}
inline int16x8_t load_int16(const std::byte* at) { return vreinterpretq_s16_u8(vld1q_u8(bytes(at))); }

// Four activations, four times.
inline int8x16_t four_of(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

// Bits of step j in a plane of `bits` bits, moved to bit position `to`.
template <int bits, int to>
inline uint8x16_t plane_bits(const std::byte* plane, int j) {
  const uint8x16_t packed = vld1q_u8(bytes(plane) + 32 * (j % bits));
  const auto mask = static_cast<uint8_t>(((1 << bits) - 1) << to);
  return vandq_u8(vshlq_u8(packed, vdupq_n_s8(static_cast<int8_t>(to - bits * (j / bits)))), vdupq_n_u8(mask));
}

template <PanelFormat F>
inline uint8x16_t unsigned_codes(const std::byte* planes, int j) {
  if constexpr (F.bits == 2) {
    return plane_bits<2, 0>(planes, j);
  } else if constexpr (F.bits == 3) {
    return vorrq_u8(plane_bits<2, 0>(planes, j), plane_bits<1, 2>(planes + 64, j));
  } else if constexpr (F.bits == 4) {
    return plane_bits<4, 0>(planes, j);
  } else if constexpr (F.bits == 5) {
    return vorrq_u8(plane_bits<4, 0>(planes, j), plane_bits<1, 4>(planes + 128, j));
  } else if constexpr (F.bits == 6) {
    return vorrq_u8(plane_bits<4, 0>(planes, j), plane_bits<2, 4>(planes + 128, j));
  } else {
    return vld1q_u8(bytes(planes) + 32 * j);
  }
}

// Signed codes of step j for one half of the rows.
template <PanelFormat F>
inline int8x16_t codes_at(const std::byte* planes, int j, int half) {
  const uint8x16_t code = unsigned_codes<F>(planes + 16 * half, j);
  if constexpr (F.has_table) return vqtbl1q_s8(vld1q_s8(reinterpret_cast<const int8_t*>(&Codes<F>::kTable)), code);
  if constexpr (F.zero == 0) return vreinterpretq_s8_u8(code);
  return vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(F.zero));
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
  }
  if constexpr (F.has_min) {
    out.m = load_halves(at + 2 * kPanelRows);
    if constexpr (F.has_super())
      for (float32x4_t& half : out.m.half) half = vnegq_f32(half);
  }
  return out;
}

template <PanelFormat F>
inline int16x8_t scale_at(const std::byte* group, int block) {
  const uint8x8_t scale = vld1_u8(bytes(group) + block * kPanelRows);
  if constexpr (F.scale == ScaleKind::kSuperI8) return vmovl_s8(vreinterpret_s8_u8(scale));
  return vreinterpretq_s16_u16(vmovl_u8(scale));
}
template <PanelFormat F>
inline int16x8_t min_at(const std::byte* group, int block) {
  return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(bytes(group) + (Codes<F>::kBlocks + block) * kPanelRows)));
}

template <PanelFormat F>
void expand(const std::byte* panel, int64_t k, std::byte* to) {
  Factors factors{};
  for (int64_t g = 0; g < k / kGroup; ++g, panel += F.group_bytes(), to += Expanded<F>::kBytes) {
    if (!F.has_super() || g % kSuperGroups == 0) {
      factors = factors_at<F>(panel);
      panel += F.super_header_bytes();
    }
#pragma GCC unroll 8
    for (int j = 0; j < kSteps; ++j)
      for (int half = 0; half < kHalves; ++half)
        vst1q_s8(reinterpret_cast<int8_t*>(to) + 32 * j + 16 * half,
                 codes_at<F>(panel + F.group_scales_bytes(), j, half));
    for (int half = 0; half < kHalves; ++half) {
      vst1q_u8(bytes(to) + Expanded<F>::kD + 16 * half, vreinterpretq_u8_f32(factors.d.half[half]));
      if constexpr (F.has_min)
        vst1q_u8(bytes(to) + Expanded<F>::kM + 16 * half, vreinterpretq_u8_f32(factors.m.half[half]));
    }
    for (int block = 0; F.has_super() && block < Codes<F>::kBlocks; ++block) {
      vst1q_u8(bytes(to) + Expanded<F>::kScales + 16 * block, vreinterpretq_u8_s16(scale_at<F>(panel, block)));
      if constexpr (F.has_min)
        vst1q_u8(bytes(to) + Expanded<F>::kMins + 16 * block, vreinterpretq_u8_s16(min_at<F>(panel, block)));
    }
  }
}

// Adds bias and what was there, and writes the rows that exist.
inline void finish(const MatmulArgs& args, int64_t panel, int64_t column, const float32x4_t (&sum)[kHalves]) {
  for (int half = 0; half < kHalves; ++half) {
    const int64_t row = panel * kPanelRows + 4 * half;
    float* out = args.out + column * args.out_stride + row;
    if (row + 4 <= args.rows) {
      float32x4_t value = sum[half];
      if (args.epilogue.bias) value = vaddq_f32(value, vld1q_f32(args.epilogue.bias + row));
      if (args.epilogue.accumulate) value = vaddq_f32(vld1q_f32(out), value);
      vst1q_f32(out, value);
      continue;
    }
    float lanes[4];
    vst1q_f32(lanes, sum[half]);
    for (int64_t i = 0; i < args.rows - row; ++i) {
      const float value = args.epilogue.bias ? lanes[i] + args.epilogue.bias[row + i] : lanes[i];
      out[i] = args.epilogue.accumulate ? out[i] + value : value;
    }
  }
}

// A panel times C columns of quantised activations. kPlanes: the panel as stored; otherwise an expanded one.
template <PanelFormat F, bool kDot, bool kPlanes, int C>
struct Tile {
  using Code = Codes<F>;
  static constexpr int64_t kBytes = kPlanes ? F.group_bytes() : Expanded<F>::kBytes;

  const std::byte* at;
  const int8_t* x;
  const float* dx;
  const int16_t* sums;
  int64_t k;
  Factors factors;
  float32x4_t acc[C][kHalves];

  int8x16_t codes(int j, int half) const {
    if constexpr (kPlanes) return codes_at<F>(at + F.group_scales_bytes(), j, half);
    return vld1q_s8(reinterpret_cast<const int8_t*>(at) + 32 * j + 16 * half);
  }
  int16x8_t scale(int block) const {
    if constexpr (kPlanes) return scale_at<F>(at, block);
    return load_int16(at + Expanded<F>::kScales + 16 * block);
  }
  int16x8_t mins(int block) const {
    if constexpr (kPlanes) return min_at<F>(at, block);
    return load_int16(at + Expanded<F>::kMins + 16 * block);
  }
  Factors group_factors() const {
    if constexpr (kPlanes) return F.has_super() ? factors : factors_at<F>(at);
    Factors out{};
    out.d = load_floats(at + Expanded<F>::kD);
    if constexpr (F.has_min) out.m = load_floats(at + Expanded<F>::kM);
    return out;
  }

  // Sums of a block per row, by dot products of four bytes.
  void dot_block(int first, int32x4_t (&rows)[C][kHalves]) const {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) rows[c][0] = rows[c][1] = vdupq_n_s32(0);
#pragma GCC unroll 8
    for (int j = first; j < first + Code::kBlockSteps; ++j) {
      const int8x16_t low = codes(j, 0), high = codes(j, 1);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const int8x16_t b = four_of(x + c * k + 4 * j);
        if constexpr (kDot) {
          rows[c][0] = vdotq_s32(rows[c][0], low, b);
          rows[c][1] = vdotq_s32(rows[c][1], high, b);
        }
      }
    }
  }

  // The same without: products added in int16 as far as they fit, then in pairs to int32.
  void multiply_block(int first, int32x4_t (&rows)[C][kHalves]) const {
    int32x4_t wide[C][kHalves][2];
#pragma GCC unroll 8
    for (int from = first; from < first + Code::kBlockSteps; from += Code::kAdds) {
      int16x8_t sum[C][kHalves][2];
#pragma GCC unroll 8
      for (int j = from; j < from + Code::kAdds; ++j) {
        const int8x16_t w[kHalves] = {codes(j, 0), codes(j, 1)};
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          const int8x8_t b = vget_low_s8(four_of(x + c * k + 4 * j));
#pragma GCC unroll 2
          for (int half = 0; half < kHalves; ++half) {
            sum[c][half][0] =
                j == from ? vmull_s8(vget_low_s8(w[half]), b) : vmlal_s8(sum[c][half][0], vget_low_s8(w[half]), b);
            sum[c][half][1] =
                j == from ? vmull_s8(vget_high_s8(w[half]), b) : vmlal_s8(sum[c][half][1], vget_high_s8(w[half]), b);
          }
        }
      }
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half)
#pragma GCC unroll 2
          for (int i = 0; i < 2; ++i)
            wide[c][half][i] =
                from == first ? vpaddlq_s16(sum[c][half][i]) : vpadalq_s16(wide[c][half][i], sum[c][half][i]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
      for (int half = 0; half < kHalves; ++half) rows[c][half] = vpaddq_s32(wide[c][half][0], wide[c][half][1]);
  }

  static int32x4_t widen(int16x8_t v, int half) { return vmovl_s16(half ? vget_high_s16(v) : vget_low_s16(v)); }

  void add_group() {
    int32x4_t isum[C][kHalves], msum[C][kHalves];
#pragma GCC unroll 2
    for (int block = 0; block < Code::kBlocks; ++block) {
      int32x4_t rows[C][kHalves];
      if constexpr (kDot) {
        dot_block(block * Code::kBlockSteps, rows);
      } else {
        multiply_block(block * Code::kBlockSteps, rows);
      }
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const int16_t* sum = sums + c * (k / 16);
        const int32_t block_sum = F.block == 16 ? sum[block] : sum[0] + sum[1];
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half) {
          if constexpr (Code::kScaled) {
            const int32x4_t factor = widen(scale(block), half);
            isum[c][half] =
                block == 0 ? vmulq_s32(rows[c][half], factor) : vmlaq_s32(isum[c][half], rows[c][half], factor);
          } else {
            isum[c][half] = rows[c][half];
          }
          if constexpr (F.has_min && Code::kScaled) {
            const int32x4_t each = vmulq_n_s32(widen(mins(block), half), block_sum);
            msum[c][half] = block == 0 ? each : vaddq_s32(msum[c][half], each);
          } else {
            msum[c][half] = vdupq_n_s32(block_sum);
          }
        }
      }
    }
    const Factors factor = group_factors();
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const float step = dx[c * (k / kGroup)];
#pragma GCC unroll 2
      for (int half = 0; half < kHalves; ++half) {
        acc[c][half] = vfmaq_f32(acc[c][half], vcvtq_f32_s32(isum[c][half]), vmulq_n_f32(factor.d.half[half], step));
        if constexpr (F.has_min)
          acc[c][half] = vfmaq_f32(acc[c][half], vcvtq_f32_s32(msum[c][half]), vmulq_n_f32(factor.m.half[half], step));
      }
    }
  }

  void run(const MatmulArgs& args, int64_t panel, int64_t column) {
    k = args.k;
    factors = {};
    x = args.xq.codes + column * k;
    dx = args.xq.scales + column * (k / kGroup);
    sums = args.xq.sums + column * (k / 16);
    for (int c = 0; c < C; ++c) acc[c][0] = acc[c][1] = vdupq_n_f32(0.0f);
    for (int64_t g = 0; g < k / kGroup; ++g) {
      if (kPlanes && F.has_super() && g % kSuperGroups == 0) {
        factors = factors_at<F>(at);
        at += F.super_header_bytes();
      }
      add_group();
      at += kBytes;
      x += kGroup;
      dx += 1;
      sums += 2;
    }
    for (int c = 0; c < C; ++c) finish(args, panel, column + c, acc[c]);
  }
};

template <PanelFormat F, bool kDot, bool kPlanes, int C>
void tile_at(const MatmulArgs& args, const std::byte* at, int64_t panel, int64_t column) {
  Tile<F, kDot, kPlanes, C> tile;
  tile.at = at;
  tile.run(args, panel, column);
}

// Columns [column, column + count), count 1 to 4.
template <PanelFormat F, bool kDot, bool kPlanes>
void columns_at(const MatmulArgs& args, const std::byte* at, int64_t panel, int64_t column, int64_t count) {
  switch (count) {
    case 1:
      return tile_at<F, kDot, kPlanes, 1>(args, at, panel, column);
    case 2:
      return tile_at<F, kDot, kPlanes, 2>(args, at, panel, column);
    case 3:
      return tile_at<F, kDot, kPlanes, 3>(args, at, panel, column);
    default:
      return tile_at<F, kDot, kPlanes, 4>(args, at, panel, column);
  }
}

// Columns whose activations stay in the second-level cache while panels stream past.
constexpr int64_t kColumnsBytes = 128 * 1024;

template <PanelFormat F, bool kDot>
void matmul(const PanelFormat&, const MatmulArgs& args) {
  const int64_t fit = kColumnsBytes / args.k / 4 * 4;
  const int64_t block = fit < 16 ? 16 : fit > 128 ? 128 : fit;
  for (int64_t begin = 0; begin < args.m; begin += block) {
    const int64_t end = begin + block < args.m ? begin + block : args.m;
    for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
      const std::byte* at = args.panels + panel * args.panel_stride;
      if (args.m <= 4) {
        columns_at<F, kDot, true>(args, at, panel, 0, args.m);
        continue;
      }
      expand<F>(at, args.k, args.scratch);
      for (int64_t column = begin; column < end; column += 4)
        columns_at<F, kDot, false>(args, args.scratch, panel, column, end - column < 4 ? end - column : 4);
    }
  }
}

template <PanelFormat F>
inline Floats weights_at(const std::byte* panel, int64_t i) {
  if constexpr (F.bits == 32) return load_floats(panel + 4 * kPanelRows * i);
  if constexpr (!F.bfloat) return load_halves(panel + 2 * kPanelRows * i);
  const uint16x8_t narrow = vreinterpretq_u16_u8(vld1q_u8(bytes(panel) + 2 * kPanelRows * i));
  return {{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(narrow), 16)),
           vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(narrow), 16))}};
}

// P panels times C columns; several sums at once, so that a multiply-add need not wait for the one before it.
template <PanelFormat F, int P, int C>
void float_tile(const MatmulArgs& args, int64_t panel, int64_t column) {
  float32x4_t acc[P][C][kHalves];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[p][c][0] = acc[p][c][1] = vdupq_n_f32(0.0f);
  const std::byte* at = args.panels + panel * args.panel_stride;
  const float* x = args.x + column * args.x_stride;
  for (int64_t i = 0; i < args.k; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const Floats w = weights_at<F>(at + p * args.panel_stride, i);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half)
          acc[p][c][half] = vfmaq_n_f32(acc[p][c][half], w.half[half], x[c * args.x_stride + i]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) finish(args, panel + p, column + c, acc[p][c]);
}

template <PanelFormat F, int C>
void float_panels(const MatmulArgs& args, int64_t column) {
  constexpr int P = C == 1 ? 4 : 2;
  int64_t panel = args.panel_begin;
  for (; panel + P <= args.panel_end; panel += P) float_tile<F, P, C>(args, panel, column);
  for (; panel < args.panel_end; ++panel) float_tile<F, 1, C>(args, panel, column);
}

template <PanelFormat F>
void float_matmul(const PanelFormat&, const MatmulArgs& args) {
  int64_t column = 0;
  for (; column + 4 <= args.m; column += 4) float_panels<F, 4>(args, column);
  for (; column + 2 <= args.m; column += 2) float_panels<F, 2>(args, column);
  for (; column < args.m; ++column) float_panels<F, 1>(args, column);
}

template <PanelFormat F, bool kDot>
constexpr MatmulEntry entry() {
  if constexpr (F.is_float()) {
    return {F, float_matmul<F>};
  } else {
    return {F, matmul<F, kDot>};
  }
}

template <bool kDot>
constexpr auto entries() {
  return std::array{
      entry<formats::kF32, kDot>(),   entry<formats::kF16, kDot>(),    entry<formats::kBF16, kDot>(),
      entry<formats::kQ4_0, kDot>(),  entry<formats::kQ4_1, kDot>(),   entry<formats::kQ5_0, kDot>(),
      entry<formats::kQ5_1, kDot>(),  entry<formats::kQ8_0, kDot>(),   entry<formats::kQ2_K, kDot>(),
      entry<formats::kQ3_K, kDot>(),  entry<formats::kQ4_K, kDot>(),   entry<formats::kQ5_K, kDot>(),
      entry<formats::kQ6_K, kDot>(),  entry<formats::kIQ4_NL, kDot>(), entry<formats::kIQ4_XS, kDot>(),
      entry<formats::kMXFP4, kDot>(),
  };
}

}  // namespace
}  // namespace hearth::cpu::neon
