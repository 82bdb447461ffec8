// Matrix products for ARMv8, compiled once for each kind of multiplication (neon.cc, neon_dotprod.cc, neon_i8mm.cc include
// this inside their target regions; everything is in an unnamed namespace, so that they do not meet).
// Codes are multiplied as they are stored; a zero point is taken off by starting a sum at -zero times that of the
// activations. Up to 4 columns read the planes as they lie, more share a panel that was expanded once to bytes.
#pragma once

#include <algorithm>
#include <cstring>

#include "backend/cpu/neon_float_matmul.h"
#include "backend/cpu/neon_planes.h"

namespace hearth::cpu::neon {
namespace {

enum class Multiply : uint8_t {
  kLong,    // smlal: 8 products, added in int16 as far as they fit
  kDot,     // sdot: 16 products, four into an int32
  kMatrix,  // smmla: 2 rows times 2 columns of 8, of expanded panels; else as kDot
};

consteval int largest_code(const PanelFormat& format) {
  if (format.has_low) return formats::kNestedZero;
  int largest = format.bits == 8 ? 128 : (1 << format.bits) - 1;
  if (!format.has_table) return largest;
  largest = 0;
  for (const int8_t value : format.table) largest = std::max(largest, value < 0 ? -value : +value);
  return largest;
}

template <PanelFormat F>
struct Codes {
  static constexpr int kBlockSteps = F.block / 4;
  static constexpr int kBlocks = F.blocks_per_group();
  static constexpr int kFit = 32767 / (127 * largest_code(F));  // products that add up in int16
  static constexpr int kAdds = kFit >= 8 && kBlockSteps >= 8 ? 8 : kFit >= 4 ? 4 : 2;
  static_assert(kAdds * 127 * largest_code(F) <= 32767, "an int16 sum could overflow");
};

// A group expanded: 16 vectors of codes, d and m of the group or of the header it stands under, then scales as int32 and
// minimums as floats of the blocks.
template <PanelFormat F>
struct Expanded {
  static constexpr int kD = 32 * kSteps;
  static constexpr int kM = kD + 32;
  static constexpr int kScales = kM + (F.has_min ? 32 : 0);
  static constexpr int kMins = kScales + (F.has_super() ? 32 * Codes<F>::kBlocks : 0);
  static constexpr int kBytes = kMins + (F.has_super() && F.has_min ? 32 * Codes<F>::kBlocks : 0);
  static_assert(kBytes + 64 <= matmul_scratch_bytes(kGroup), "the scratch is too small");
};

// For kMatrix two steps of two rows lie together, 8 codes of each row; otherwise a step of four rows.
template <PanelFormat F, Multiply M>
void expand(const std::byte* panel, const std::byte* low, int64_t k, std::byte* to) {
  Factors factors{};
  for (int64_t g = 0; g < k / kGroup;
       ++g, panel += F.group_bytes(), low += F.low_bytes(kGroup), to += Expanded<F>::kBytes) {
    if (!F.has_super() || g % kSuperGroups == 0) {
      factors = factors_at<F>(panel);
      panel += F.super_header_bytes();
    }
    auto* codes = reinterpret_cast<int8_t*>(to);
    each<kSteps / 2>([&](auto pair) {
      each<kHalves>([&](auto half) {
        const std::byte* planes = panel + F.group_scales_bytes() + 16 * half;
        const int32x4_t first = vreinterpretq_s32_s8(codes_at<F, 2 * pair>(planes, low, half));
        const int32x4_t second = vreinterpretq_s32_s8(codes_at<F, 2 * pair + 1>(planes, low, half));
        if constexpr (M == Multiply::kMatrix) {
          vst1q_s8(codes + 64 * pair + 32 * half, vreinterpretq_s8_s32(vzip1q_s32(first, second)));
          vst1q_s8(codes + 64 * pair + 32 * half + 16, vreinterpretq_s8_s32(vzip2q_s32(first, second)));
        } else {
          vst1q_s8(codes + 64 * pair + 16 * half, vreinterpretq_s8_s32(first));
          vst1q_s8(codes + 64 * pair + 16 * half + 32, vreinterpretq_s8_s32(second));
        }
      });
    });
    store_floats(to + Expanded<F>::kD, factors.d);
    if constexpr (F.has_min) store_floats(to + Expanded<F>::kM, factors.m);
    for (int block = 0; F.has_super() && block < Codes<F>::kBlocks; ++block) {
      const Ints scale = scale_at<F>(panel, block);
      for (int half = 0; half < kHalves; ++half)
        vst1q_u8(bytes(to) + Expanded<F>::kScales + 32 * block + 16 * half, vreinterpretq_u8_s32(scale.half[half]));
      if constexpr (F.has_min) store_floats(to + Expanded<F>::kMins + 32 * block, min_at<F>(panel, block));
    }
  }
}

// Where a tile reads: one group of a panel and of its columns' activations.
template <PanelFormat F, bool kPlanes>
struct Place {
  const std::byte *at, *low;  // a group as stored, or expanded
  const int8_t* x;
  const float* dx;
  const float* scaled_sums;
  const int16_t* sums;
  int64_t k, m;

  void next() {
    at += kPlanes ? F.group_bytes() : Expanded<F>::kBytes;
    low += F.low_bytes(kGroup);
    x += kGroup;
    dx += m;
    scaled_sums += m;
    sums += 2 * m;
  }
  template <int j>
  int8x16_t codes(int half) const {
    if constexpr (kPlanes) return codes_at<F, j>(at + F.group_scales_bytes() + 16 * half, low, half);
    return vld1q_s8(reinterpret_cast<const int8_t*>(at) + 32 * j + 16 * half);
  }
  Ints scale(int block) const {
    if constexpr (kPlanes) return scale_at<F>(at, block);
    const int8_t* scale = reinterpret_cast<const int8_t*>(at) + Expanded<F>::kScales + 32 * block;
    return {{vreinterpretq_s32_s8(vld1q_s8(scale)), vreinterpretq_s32_s8(vld1q_s8(scale + 16))}};
  }
  Floats mins(int block) const {
    if constexpr (kPlanes) return min_at<F>(at, block);
    return load_floats(at + Expanded<F>::kMins + 32 * block);
  }
  Factors factors() const {
    if constexpr (kPlanes) return factors_at<F>(at);
    Factors out{};
    out.d = load_floats(at + Expanded<F>::kD);
    if constexpr (F.has_min) out.m = load_floats(at + Expanded<F>::kM);
    return out;
  }
  // What a block's sum of products starts with.
  int32_t start(int column, int block) const {
    const int16_t* both = sums + 2 * column;
    return -F.zero * (F.block == kGroup ? both[0] + both[1] : both[block]);
  }
  int32x4_t start_of_rows(int column, int block) const { return vdupq_n_s32(F.zero ? start(column, block) : 0); }
};

template <int C>
using Sums = int32x4_t[C][kHalves];

// Sums of one block per column and row.
template <Multiply M, int C, int block, PanelFormat F, bool kPlanes>
[[gnu::always_inline]] inline void dot_block(const Place<F, kPlanes>& place, Sums<C>& rows) {
  constexpr int kFirst = block * Codes<F>::kBlockSteps;
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) rows[c][0] = rows[c][1] = place.start_of_rows(c, block);
  each<Codes<F>::kBlockSteps / 4>([&](auto quad) {
    constexpr int kQuad = kFirst + 4 * quad;
    int8x16_t x[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) x[c] = vld1q_s8(place.x + c * place.k + 4 * kQuad);
    each<4>([&](auto lane) {
      const int8x16_t low = place.template codes<kQuad + lane>(0), high = place.template codes<kQuad + lane>(1);
      each<C>([&](auto c) {
        if constexpr (M != Multiply::kLong) {
          rows[c][0] = vdotq_laneq_s32(rows[c][0], low, x[c], lane);
          rows[c][1] = vdotq_laneq_s32(rows[c][1], high, x[c], lane);
        }
      });
    });
  });
}

// Four activations, four times.
inline int8x16_t four_of(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  return vreinterpretq_s8_s32(vdupq_n_s32(word));
}

template <int C, int block, PanelFormat F, bool kPlanes>
[[gnu::always_inline]] inline void long_block(const Place<F, kPlanes>& place, Sums<C>& rows) {
  constexpr int kAdds = Codes<F>::kAdds, kChains = Codes<F>::kBlockSteps / kAdds;
  int32x4_t wide[C][kHalves][2];
  each<kChains>([&](auto chain) {
    int16x8_t sum[C][kHalves][2];
    each<kAdds>([&](auto add) {
      constexpr int j = block * Codes<F>::kBlockSteps + chain * kAdds + add;
      const int8x16_t w[kHalves] = {place.template codes<j>(0), place.template codes<j>(1)};
      each<C>([&](auto c) {
        const int8x16_t x = four_of(place.x + c * place.k + 4 * j);
        each<kHalves>([&](auto half) {
          int16x8_t(&each_sum)[2] = sum[c][half];
          each_sum[0] = add == 0 ? vmull_s8(vget_low_s8(w[half]), vget_low_s8(x))
                                 : vmlal_s8(each_sum[0], vget_low_s8(w[half]), vget_low_s8(x));
          each_sum[1] = add == 0 ? vmull_high_s8(w[half], x) : vmlal_high_s8(each_sum[1], w[half], x);
        });
      });
    });
    each<C>([&](auto c) {
      each<kHalves>([&](auto half) {
        for (int i = 0; i < 2; ++i)
          wide[c][half][i] = chain == 0 ? vpaddlq_s16(sum[c][half][i]) : vpadalq_s16(wide[c][half][i], sum[c][half][i]);
      });
    });
  });
  each<C>([&](auto c) {
    each<kHalves>([&](auto half) {
      rows[c][half] = vpaddq_s32(wide[c][half][0], wide[c][half][1]);
      if constexpr (F.zero != 0) rows[c][half] = vaddq_s32(rows[c][half], place.start_of_rows(c, block));
    });
  });
}

// C even.
template <Multiply M, int C, int block, PanelFormat F>
[[gnu::always_inline]] inline void matrix_block(const Place<F, false>& place, Sums<C>& rows) {
  constexpr int kPairs = C / 2, kRowPairs = kPanelRows / 2;
  int32x4_t sum[kRowPairs][kPairs];
  each<kPairs>([&](auto p) {
    int32x4_t start = vdupq_n_s32(0);
    if constexpr (F.zero != 0) {
      const int32x2_t both = {place.start(2 * p, block), place.start(2 * p + 1, block)};
      start = vcombine_s32(both, both);
    }
    for (int r = 0; r < kRowPairs; ++r) sum[r][p] = start;
  });
  each<Codes<F>::kBlockSteps / 4>([&](auto quad) {
    constexpr int kQuad = block * Codes<F>::kBlockSteps + 4 * quad;
    int64x2_t x[kPairs][2];  // 8 activations of either column, then the next 8
    each<kPairs>([&](auto p) {
      const int8_t* first = place.x + 2 * p * place.k + 4 * kQuad;
      const int64x2_t one = vreinterpretq_s64_s8(vld1q_s8(first)),
                      two = vreinterpretq_s64_s8(vld1q_s8(first + place.k));
      x[p][0] = vzip1q_s64(one, two);
      x[p][1] = vzip2q_s64(one, two);
    });
    each<2>([&](auto part) {
      each<kRowPairs>([&](auto r) {
        const int8x16_t w = vld1q_s8(reinterpret_cast<const int8_t*>(place.at) + 32 * (kQuad + 2 * part) + 16 * r);
        each<kPairs>([&](auto p) {
          if constexpr (M == Multiply::kMatrix) sum[r][p] = vmmlaq_s32(sum[r][p], w, vreinterpretq_s8_s64(x[p][part]));
        });
      });
    });
  });
  each<kPairs>([&](auto p) {
    each<kHalves>([&](auto half) {
      rows[2 * p][half] = vuzp1q_s32(sum[2 * half][p], sum[2 * half + 1][p]);
      rows[2 * p + 1][half] = vuzp2q_s32(sum[2 * half][p], sum[2 * half + 1][p]);
    });
  });
}

// The group's integer sums, blocks scaled.
template <Multiply M, int C, PanelFormat F, bool kPlanes>
[[gnu::always_inline]] inline void group_sums(const Place<F, kPlanes>& place, Sums<C>& isum) {
  each<Codes<F>::kBlocks>([&](auto block) {
    Sums<C> rows;
    if constexpr (M == Multiply::kLong)
      long_block<C, block>(place, rows);
    else if constexpr (M == Multiply::kMatrix && !kPlanes)
      matrix_block<M, C, block>(place, rows);
    else
      dot_block<M, C, block>(place, rows);
    const Ints scale = F.has_super() ? place.scale(block) : Ints{};
    each<C>([&](auto c) {
      each<kHalves>([&](auto half) {
        if constexpr (!F.has_super())
          isum[c][half] = rows[c][half];
        else if constexpr (block == 0)
          isum[c][half] = vmulq_s32(rows[c][half], scale.half[half]);
        else
          isum[c][half] = vmlaq_s32(isum[c][half], rows[c][half], scale.half[half]);
      });
    });
  });
}

template <int C>
using FloatSums = float32x4_t[C][kHalves];

template <int C>
[[gnu::always_inline]] inline void clear(FloatSums<C>& sums) {
  each<C>([&](auto c) { sums[c][0] = sums[c][1] = vdupq_n_f32(0.0f); });
}

// acc += factor * sums
template <int C>
[[gnu::always_inline]] inline void add(FloatSums<C>& acc, const FloatSums<C>& sums, const Floats& factor) {
  each<C>([&](auto c) {
    each<kHalves>([&](auto half) { acc[c][half] = vfmaq_f32(acc[c][half], sums[c][half], factor.half[half]); });
  });
}

// One group of a format with scales of its own.
template <Multiply M, int C, PanelFormat F, bool kPlanes>
[[gnu::always_inline]] inline void add_group(const Place<F, kPlanes>& place, FloatSums<C>& acc) {
  Sums<C> isum;
  group_sums<M, C>(place, isum);
  const Factors factor = place.factors();
  each<C>([&](auto c) {
    each<kHalves>([&](auto half) {
      const float32x4_t step = vmulq_n_f32(factor.d.half[half], place.dx[c]);
      acc[c][half] = vfmaq_f32(acc[c][half], vcvtq_f32_s32(isum[c][half]), step);
      if constexpr (F.has_min) acc[c][half] = vfmaq_n_f32(acc[c][half], factor.m.half[half], place.scaled_sums[c]);
    });
  });
}

// The groups under one header.
template <Multiply M, int C, PanelFormat F, bool kPlanes>
[[gnu::always_inline]] inline void add_super_group(Place<F, kPlanes>& place, int64_t groups, FloatSums<C>& acc) {
  const Factors factor = place.factors();
  if constexpr (kPlanes) place.at += F.super_header_bytes();
  FloatSums<C> s, t;
  clear<C>(s);
  clear<C>(t);
  for (int64_t g = 0; g < groups; ++g, place.next()) {
    Sums<C> isum;
    group_sums<M, C>(place, isum);
    each<C>([&](auto c) {
      each<kHalves>(
          [&](auto half) { s[c][half] = vfmaq_n_f32(s[c][half], vcvtq_f32_s32(isum[c][half]), place.dx[c]); });
    });
    for (int block = 0; F.has_min && block < Codes<F>::kBlocks; ++block) {
      const Floats mins = place.mins(block);
      each<C>([&](auto c) {
        const float x =
            F.block == kGroup ? place.scaled_sums[c] : static_cast<float>(place.sums[2 * c + block]) * place.dx[c];
        each<kHalves>([&](auto half) { t[c][half] = vfmaq_n_f32(t[c][half], mins.half[half], x); });
      });
    }
  }
  add<C>(acc, s, factor.d);
  if constexpr (F.has_min) add<C>(acc, t, factor.m);
}

// A panel times C columns of quantised activations, written from column `first` on. kPlanes: the panel as stored; otherwise
// an expanded one.
template <PanelFormat F, Multiply M, bool kPlanes, int C>
void tile(const MatmulArgs& args, const std::byte* at, int64_t panel, int64_t column, int first = 0) {
  const QuantizedRows xq = args.xq.from_row(column);
  Place<F, kPlanes> place{
      at, args.low + panel * F.low_bytes(args.k), xq.codes, xq.scales, xq.scaled_sums, xq.sums, xq.k, xq.m};
  FloatSums<C> acc;
  clear<C>(acc);
  if constexpr (F.has_super()) {
    for (int64_t left = xq.k / kGroup; left > 0; left -= kSuperGroups)
      add_super_group<M, C>(place, std::min<int64_t>(left, kSuperGroups), acc);
  } else {
    for (int64_t g = 0; g < xq.k / kGroup; ++g, place.next()) add_group<M, C>(place, acc);
  }
  each<C>([&](auto c) {
    if (c >= first) finish(args, panel, column + c, acc[c][0], acc[c][1]);
  });
}

// Columns [column, column + count), count 1 to 4.
template <PanelFormat F, Multiply M, bool kPlanes>
void columns_at(const MatmulArgs& args, const std::byte* at, int64_t panel, int64_t column, int count) {
  if (count == 4) return tile<F, M, kPlanes, 4>(args, at, panel, column);
  if (count == 2) return tile<F, M, kPlanes, 2>(args, at, panel, column);
  if constexpr (M == Multiply::kMatrix && !kPlanes) {
    // Columns come in pairs: an odd number has the column before it beside it, which was written already.
    if (count == 3) return tile<F, M, kPlanes, 4>(args, at, panel, column - 1, 1);
    return tile<F, M, kPlanes, 2>(args, at, panel, column - 1, 1);
  } else {
    if (count == 3) return tile<F, M, kPlanes, 3>(args, at, panel, column);
    return tile<F, M, kPlanes, 1>(args, at, panel, column);
  }
}

// Columns whose activations stay in the second-level cache while panels stream past.
constexpr int64_t kColumnsBytes = 128 * 1024;

template <PanelFormat F, Multiply M>
void matmul(const PanelFormat&, const MatmulArgs& args) {
  const int64_t fit = kColumnsBytes / args.k / 4 * 4;
  const int64_t block = fit < 16 ? 16 : fit > 128 ? 128 : fit;
  for (int64_t begin = 0; begin < args.m; begin += block) {
    const int64_t end = begin + block < args.m ? begin + block : args.m;
    for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
      const std::byte* at = args.panels + panel * args.panel_stride;
      if (args.m <= 4) {
        columns_at<F, M, true>(args, at, panel, 0, args.m);
        continue;
      }
      expand<F, M>(at, args.low + panel * F.low_bytes(args.k), args.k, args.scratch);
      for (int64_t column = begin; column < end; column += 4)
        columns_at<F, M, false>(args, args.scratch, panel, column,
                                end - column < 4 ? static_cast<int>(end - column) : 4);
    }
  }
}

template <PanelFormat F, Multiply M>
constexpr MatmulEntry entry() {
  if constexpr (F.is_float())
    return {F, float_matmul<F>};
  else
    return {F, matmul<F, M>};
}

template <Multiply M>
constexpr auto entries() {
  return std::array{
      entry<formats::kF32, M>(),   entry<formats::kF16, M>(),    entry<formats::kBF16, M>(),
      entry<formats::kQ4_0, M>(),  entry<formats::kQ4_1, M>(),   entry<formats::kQ5_0, M>(),
      entry<formats::kQ5_1, M>(),  entry<formats::kQ8_0, M>(),   entry<formats::kQ2_K, M>(),
      entry<formats::kQ3_K, M>(),  entry<formats::kQ4_K, M>(),   entry<formats::kQ5_K, M>(),
      entry<formats::kQ6_K, M>(),  entry<formats::kIQ4_NL, M>(), entry<formats::kIQ4_XS, M>(),
      entry<formats::kMXFP4, M>(), entry<formats::kI4S, M>(),    entry<formats::kI4H, M>(),
      entry<formats::kI5, M>(),    entry<formats::kI6, M>(),     entry<formats::kI8, M>(),
  };
}

}  // namespace
}  // namespace hearth::cpu::neon
