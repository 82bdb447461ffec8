// Matrix products for AVX2. One column or a few read the planes as they lie; more columns share a panel that was
// expanded once to bytes. Codes are unsigned bytes times signed activations (maddubs), as many products added in int16
// as provably fit.
#if defined(__x86_64__)
#include <array>
#include <cstring>

#include "backend/cpu/avx2.h"
#include "backend/cpu/formats.h"

namespace hearth::cpu::avx2 {
namespace {

constexpr int kSteps = kGroup / 4;  // vectors of codes in a group
constexpr int kActivationMax = 127;

consteval int table_min(const PanelFormat& format) {
  int least = 0;
  for (const int8_t value : format.table) least = value < least ? value : least;
  return least;
}
consteval int table_max(const PanelFormat& format) {
  int most = 0;
  for (const int8_t value : format.table) most = value > most ? value : most;
  return most;
}

// Panels that share each activation when many columns are multiplied.
constexpr int kExpandedPanels = 2;
// How the codes of a format are multiplied.
template <PanelFormat F>
struct Codes {
  static constexpr int kSpan = table_max(F) - table_min(F);
  // Signed codes: |w| times x with w's sign. A table of a small span is shifted to unsigned numbers instead.
  static constexpr bool kSigned = F.bits == 8 || kSpan > 31;
  static constexpr int kZero = kSigned ? 0 : F.has_table ? -table_min(F) : F.zero;
  static constexpr int kMax = kSigned ? 128 : F.has_table ? kSpan : (1 << F.bits) - 1;
  static constexpr int kFit = 32767 / (2 * kActivationMax * kMax);  // results of maddubs that add up in int16
  static constexpr int kBlockSteps = F.block / 4;
  static constexpr int kUseful = kFit < kBlockSteps ? kFit : kBlockSteps;
  static constexpr int kAdds = kUseful >= 8 ? 8 : kUseful >= 4 ? 4 : kUseful >= 2 ? 2 : 1;
  static_assert(kAdds * 2 * kActivationMax * kMax <= 32767, "an int16 sum could saturate");
  static constexpr bool kScaled = F.has_super();
  static constexpr bool kHasZero = kZero != 0;

  static constexpr std::array<int8_t, 16> shifted_table() {
    std::array<int8_t, 16> out{};
    for (size_t i = 0; i < 16; ++i) out[i] = static_cast<int8_t>(F.table[i] + kZero);
    return out;
  }
  alignas(16) static constexpr std::array<int8_t, 16> kTable = shifted_table();
};

// A group expanded to bytes: the vectors of codes, then what the format needs of these, 32 bytes each.
template <PanelFormat F>
struct Expanded {
  static constexpr int kScales = 32 * kSteps;
  static constexpr int kZeros = kScales + (Codes<F>::kScaled ? 32 * F.blocks_per_group() : 0);
  static constexpr int kMins = kZeros + (Codes<F>::kScaled && Codes<F>::kHasZero ? 32 : 0);
  static constexpr int kD = kMins + (Codes<F>::kScaled && F.has_min ? 32 : 0);
  static constexpr int kM = kD + 32;
  static constexpr int kBytes = kM + (F.has_min ? 32 : 0);
  static_assert(kExpandedPanels * kBytes + 64 <= matmul_scratch_bytes(kGroup), "the scratch is too small");
};

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

using Ints = __m256i;
using Floats = __m256;

inline Ints load(const void* at) { return _mm256_loadu_si256(static_cast<const Ints*>(at)); }
inline Ints broadcast_word(const void* at) {
  int32_t word;
  std::memcpy(&word, at, sizeof word);
  return _mm256_set1_epi32(word);
}
// The compiler may not re-associate sums across this, which would turn a few registers into many and spill them.
inline void keep_order(Ints& sum) { asm("" : "+x"(sum)); }
inline __m128i load_8_bytes(const void* at) { return _mm_loadl_epi64(static_cast<const __m128i*>(at)); }
inline Floats load_halves(const void* at) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at))); }

// Bits of step j in a plane of `bits` bits, moved to bit position `to`.
template <int bits, int to>
inline Ints plane_bits(const std::byte* plane, int j) {
  const int shift = bits * (j / bits) - to;
  const Ints mask = _mm256_set1_epi8(static_cast<char>(((1 << bits) - 1) << to));
  const Ints packed = load(plane + 32 * (j % bits));
  if (shift == 0) return _mm256_and_si256(packed, mask);
  return _mm256_and_si256(shift > 0 ? _mm256_srli_epi16(packed, shift) : _mm256_slli_epi16(packed, -shift), mask);
}

// The codes of step j of a group, ready to be multiplied.
template <PanelFormat F>
inline Ints codes_at(const std::byte* planes, int j) {
  if constexpr (F.bits == 2) {
    return plane_bits<2, 0>(planes, j);
  } else if constexpr (F.bits == 3) {
    return _mm256_or_si256(plane_bits<2, 0>(planes, j), plane_bits<1, 2>(planes + 64, j));
  } else if constexpr (F.bits == 5) {
    return _mm256_or_si256(plane_bits<4, 0>(planes, j), plane_bits<1, 4>(planes + 128, j));
  } else if constexpr (F.bits == 6) {
    return _mm256_or_si256(plane_bits<4, 0>(planes, j), plane_bits<2, 4>(planes + 128, j));
  } else if constexpr (F.bits == 8) {
    return load(planes + 32 * j);
  } else {
    const Ints code = plane_bits<4, 0>(planes, j);
    if constexpr (!F.has_table) return code;
    const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(&Codes<F>::kTable));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), code);
  }
}

// The integer scales and minimums of a group as pairs of int16, one pair a row: operands of madd.
struct Pairs {
  Ints scales[2];
  Ints zeros;  // -zero times the scale of either half, for the sums of either half
  Ints mins;
};

template <PanelFormat F>
inline Ints widen_pairs(const std::byte* first, const std::byte* second) {
  const __m128i pairs = _mm_unpacklo_epi8(load_8_bytes(first), load_8_bytes(second));
  return F.scale == ScaleKind::kSuperI8 ? _mm256_cvtepi8_epi16(pairs) : _mm256_cvtepu8_epi16(pairs);
}

template <PanelFormat F>
inline Pairs pairs_of_group(const std::byte* group) {
  Pairs out{};
  if constexpr (Codes<F>::kScaled) {
    const std::byte* second = group + (F.block == 16 ? kPanelRows : 0);
    out.scales[0] = widen_pairs<F>(group, group);
    if constexpr (F.block == 16) out.scales[1] = widen_pairs<F>(second, second);
    if constexpr (Codes<F>::kHasZero)
      out.zeros = _mm256_mullo_epi16(widen_pairs<F>(group, second), _mm256_set1_epi16(-Codes<F>::kZero));
    if constexpr (F.has_min) {
      const std::byte* mins = group + F.blocks_per_group() * kPanelRows;
      const std::byte* second_mins = mins + (F.block == 16 ? kPanelRows : 0);
      out.mins = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(load_8_bytes(mins), load_8_bytes(second_mins)));
    }
  } else {
    if constexpr (Codes<F>::kHasZero) out.zeros = _mm256_set1_epi16(-Codes<F>::kZero);
    if constexpr (F.has_min) out.mins = _mm256_set1_epi16(1);
  }
  return out;
}

struct Factors {
  Floats d, m;
};

// 2^(e - 128) of 8 bytes; the two smallest are subnormal.
inline Floats exponents(const void* at) {
  const Ints e = _mm256_cvtepu8_epi32(load_8_bytes(at));
  const Ints normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const Ints tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

// From a group (or the header of a format with super scales).
template <PanelFormat F>
inline Factors factors_at(const std::byte* at) {
  Factors out{};
  out.d = F.scale == ScaleKind::kE8M0 ? exponents(at) : load_halves(at);
  if constexpr (F.has_min) {
    out.m = load_halves(at + 2 * kPanelRows);
    if constexpr (Codes<F>::kScaled) out.m = _mm256_xor_ps(out.m, _mm256_set1_ps(-0.0f));
  }
  return out;
}

// Whole panel to bytes.
template <PanelFormat F>
void expand(const std::byte* panel, int64_t k, std::byte* to) {
  Factors factors{};
  for (int64_t g = 0; g < k / kGroup; ++g, panel += F.group_bytes(), to += Expanded<F>::kBytes) {
    if constexpr (Codes<F>::kScaled) {
      if (g % kSuperGroups == 0) {
        factors = factors_at<F>(panel);
        panel += F.super_header_bytes();
      }
    } else {
      factors = factors_at<F>(panel);
    }
    const std::byte* planes = panel + F.group_scales_bytes();
#pragma GCC unroll 8
    for (int j = 0; j < kSteps; ++j) _mm256_store_si256(reinterpret_cast<Ints*>(to + 32 * j), codes_at<F>(planes, j));
    if constexpr (Codes<F>::kScaled) {
      const Pairs pairs = pairs_of_group<F>(panel);
      for (int block = 0; block < F.blocks_per_group(); ++block)
        _mm256_store_si256(reinterpret_cast<Ints*>(to + Expanded<F>::kScales + 32 * block), pairs.scales[block]);
      if constexpr (Codes<F>::kHasZero)
        _mm256_store_si256(reinterpret_cast<Ints*>(to + Expanded<F>::kZeros), pairs.zeros);
      if constexpr (F.has_min) _mm256_store_si256(reinterpret_cast<Ints*>(to + Expanded<F>::kMins), pairs.mins);
    }
    _mm256_store_ps(reinterpret_cast<float*>(to + Expanded<F>::kD), factors.d);
    if constexpr (F.has_min) _mm256_store_ps(reinterpret_cast<float*>(to + Expanded<F>::kM), factors.m);
  }
}

// Adds bias and what was there, and writes the rows that exist.
inline void finish(const MatmulArgs& args, int64_t panel, int64_t column, Floats sum) {
  const int64_t row = panel * kPanelRows;
  float* out = args.out + column * args.out_stride + row;
  if (row + kPanelRows <= args.rows) {
    if (args.epilogue.bias) sum = _mm256_add_ps(sum, _mm256_loadu_ps(args.epilogue.bias + row));
    if (args.epilogue.accumulate) sum = _mm256_add_ps(_mm256_loadu_ps(out), sum);
    return _mm256_storeu_ps(out, sum);
  }
  alignas(32) float lanes[kPanelRows];
  _mm256_store_ps(lanes, sum);
  for (int64_t i = 0; i < args.rows - row; ++i) {
    const float value = args.epilogue.bias ? lanes[i] + args.epilogue.bias[row + i] : lanes[i];
    out[i] = args.epilogue.accumulate ? out[i] + value : value;
  }
}

// P panels times C columns of quantised activations. kPlanes: `at` are panels as stored; otherwise expanded ones.
template <PanelFormat F, bool kPlanes, int P, int C>
struct Tile {
  using Code = Codes<F>;
  static constexpr int64_t kBytes = kPlanes ? F.group_bytes() : Expanded<F>::kBytes;

  const std::byte* at[P];
  const int8_t* x;
  const float* dx;
  const int16_t* sums;
  int64_t k;
  Floats acc[P][C];
  Factors factors[P];

  Ints codes(int p, int j) const {
    if constexpr (kPlanes) return codes_at<F>(at[p] + F.group_scales_bytes(), j);
    return load(at[p] + 32 * j);
  }
  Ints scale(int p, int block) const {
    if constexpr (!Code::kScaled) return _mm256_set1_epi16(1);
    if constexpr (kPlanes) return pairs_of_group<F>(at[p]).scales[block];
    return load(at[p] + Expanded<F>::kScales + 32 * block);
  }
  Ints zeros(int p) const {
    if constexpr (kPlanes || !Code::kScaled) return pairs_of_group<F>(at[p]).zeros;
    return load(at[p] + Expanded<F>::kZeros);
  }
  Ints mins(int p) const {
    if constexpr (kPlanes || !Code::kScaled) return pairs_of_group<F>(at[p]).mins;
    return load(at[p] + Expanded<F>::kMins);
  }
  Factors group_factors(int p) const {
    if constexpr (kPlanes) return Code::kScaled ? factors[p] : factors_at<F>(at[p]);
    Factors out{};
    out.d = _mm256_load_ps(reinterpret_cast<const float*>(at[p] + Expanded<F>::kD));
    if constexpr (F.has_min) out.m = _mm256_load_ps(reinterpret_cast<const float*>(at[p] + Expanded<F>::kM));
    return out;
  }

  static Ints product(Ints w, Ints magnitude, Ints b) {
    return Code::kSigned ? _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(b, w)) : _mm256_maddubs_epi16(w, b);
  }

  // The sums of kAdds steps, scaled and widened, onto isum.
  void add_steps(int first, Ints (&isum)[P][C]) const {
    Ints sum[P][C];
#pragma GCC unroll 8
    for (int j = first; j < first + Code::kAdds; ++j) {
      Ints w[P], magnitude[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        w[p] = codes(p, j);
        magnitude[p] = Code::kSigned ? _mm256_abs_epi8(w[p]) : w[p];
      }
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Ints b = broadcast_word(x + c * k + 4 * j);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const Ints each = product(w[p], magnitude[p], b);
          sum[p][c] = j == first ? each : _mm256_add_epi16(sum[p][c], each);
          keep_order(sum[p][c]);
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Ints factor = scale(p, F.block == 16 ? first / 4 : 0);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Ints wide = _mm256_madd_epi16(sum[p][c], factor);
        isum[p][c] = first == 0 ? wide : _mm256_add_epi32(isum[p][c], wide);
      }
    }
  }

  void add_group() {
    Ints isum[P][C];
#pragma GCC unroll 8
    for (int first = 0; first < kSteps; first += Code::kAdds) add_steps(first, isum);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Factors factor = group_factors(p);
      Ints zero{}, min{};
      if constexpr (Code::kHasZero) zero = zeros(p);
      if constexpr (F.has_min) min = mins(p);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Floats step = _mm256_broadcast_ss(dx + c * (k / kGroup));
        if constexpr (Code::kHasZero)
          isum[p][c] = _mm256_add_epi32(isum[p][c], _mm256_madd_epi16(broadcast_word(sums + c * (k / 16)), zero));
        acc[p][c] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[p][c]), _mm256_mul_ps(factor.d, step), acc[p][c]);
        if constexpr (F.has_min) {
          const Floats msum = _mm256_cvtepi32_ps(_mm256_madd_epi16(broadcast_word(sums + c * (k / 16)), min));
          acc[p][c] = _mm256_fmadd_ps(msum, _mm256_mul_ps(factor.m, step), acc[p][c]);
        }
      }
    }
  }

  void next_group() {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      at[p] += kBytes;
    }
    x += kGroup;
    dx += 1;
    sums += 2;
  }

  void run(const MatmulArgs& args, int64_t panel, int64_t column) {
    k = args.k;
    x = args.xq.codes + column * k;
    dx = args.xq.scales + column * (k / kGroup);
    sums = args.xq.sums + column * (k / 16);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) acc[p][c] = _mm256_setzero_ps();
    constexpr int kInner = kPlanes && Code::kScaled ? kSuperGroups : 1;
    for (int64_t g = 0; g < k / kGroup; g += kInner) {
      if constexpr (kInner > 1) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          factors[p] = factors_at<F>(at[p]);
          at[p] += F.super_header_bytes();
        }
      }
#pragma GCC unroll 1
      for (int i = 0; i < kInner; ++i) {
        add_group();
        next_group();
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) finish(args, panel + p, column + c, acc[p][c]);
  }
};

template <PanelFormat F, int C>
void planes_tile(const MatmulArgs& args, int64_t panel, int64_t column) {
  Tile<F, true, 1, C> tile;
  tile.at[0] = args.panels + panel * args.panel_stride;
  tile.run(args, panel, column);
}

template <PanelFormat F, int P, int C>
void expanded_tile(const MatmulArgs& args, int64_t panel, int64_t column) {
  Tile<F, false, P, C> tile;
  for (int p = 0; p < P; ++p) tile.at[p] = args.scratch + p * (args.k / kGroup) * Expanded<F>::kBytes;
  tile.run(args, panel, column);
}

// Columns [begin, end) of P panels from `panel`, expanded.
template <PanelFormat F, int P>
void expanded_columns(const MatmulArgs& args, int64_t panel, int begin, int end) {
  constexpr int C = 4;
  for (int p = 0; p < P; ++p)
    expand<F>(args.panels + (panel + p) * args.panel_stride, args.k,
              args.scratch + p * (args.k / kGroup) * Expanded<F>::kBytes);
  int column = begin;
  for (; column + C <= end; column += C) expanded_tile<F, P, C>(args, panel, column);
  switch (end - column) {
    case 3:
      return expanded_tile<F, P, 3>(args, panel, column);
    case 2:
      return expanded_tile<F, P, 2>(args, panel, column);
    case 1:
      return expanded_tile<F, P, 1>(args, panel, column);
    default:
      return;
  }
}

// Panel after panel: the hardware follows one stream through memory at full speed, two at half.
template <PanelFormat F, int C>
void planes_panels(const MatmulArgs& args) {
  for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) planes_tile<F, C>(args, panel, 0);
}

// Columns whose activations stay in the second-level cache while panels stream past.
constexpr int64_t kColumnsBytes = 192 * 1024;

template <PanelFormat F>
void matmul(const PanelFormat&, const MatmulArgs& args) {
  switch (args.m) {
    case 1:
      return planes_panels<F, 1>(args);
    case 2:
      return planes_panels<F, 2>(args);
    case 3:
      return planes_panels<F, 3>(args);
    case 4:
      return planes_panels<F, 4>(args);
    default:
      break;
  }
  constexpr int P = kExpandedPanels;
  const int64_t fit = kColumnsBytes / args.k / 4 * 4;
  const int block = static_cast<int>(fit < 16 ? 16 : fit > 128 ? 128 : fit);
  for (int begin = 0; begin < args.m; begin += block) {
    const int end = begin + block < args.m ? begin + block : args.m;
    int64_t panel = args.panel_begin;
    for (; panel + P <= args.panel_end; panel += P) expanded_columns<F, P>(args, panel, begin, end);
    for (; panel < args.panel_end; ++panel) expanded_columns<F, 1>(args, panel, begin, end);
  }
}

template <PanelFormat F>
inline Floats weights_at(const std::byte* panel, int64_t i) {
  if constexpr (F.bits == 32) return _mm256_loadu_ps(reinterpret_cast<const float*>(panel) + kPanelRows * i);
  const std::byte* at = panel + 2 * kPanelRows * i;
  if constexpr (!F.bfloat) return load_halves(at);
  const Ints wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

template <PanelFormat F, int P, int C>
void float_tile(const MatmulArgs& args, int64_t panel, int64_t column) {
  Floats acc[P][C];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[p][c] = _mm256_setzero_ps();
  const std::byte* at = args.panels + panel * args.panel_stride;
  const float* x = args.x + column * args.x_stride;
  for (int64_t i = 0; i < args.k; ++i) {
    Floats w[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) w[p] = weights_at<F>(at + p * args.panel_stride, i);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const Floats each = _mm256_broadcast_ss(x + c * args.x_stride + i);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) acc[p][c] = _mm256_fmadd_ps(w[p], each, acc[p][c]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) finish(args, panel + p, column + c, acc[p][c]);
}

// Several panels at once, so that a multiply-add need not wait for the one before it.
template <PanelFormat F, int P, int C>
void float_panels(const MatmulArgs& args, int column) {
  int64_t panel = args.panel_begin;
  for (; panel + P <= args.panel_end; panel += P) float_tile<F, P, C>(args, panel, column);
  for (; panel < args.panel_end; ++panel) float_tile<F, 1, C>(args, panel, column);
}

template <PanelFormat F>
void float_matmul(const PanelFormat&, const MatmulArgs& args) {
  int column = 0;
  if (args.m >= 4) {
    for (int64_t panel = args.panel_begin; panel < args.panel_end; panel += 2) {
      for (column = 0; column + 4 <= args.m; column += 4) {
        if (panel + 2 <= args.panel_end) {
          float_tile<F, 2, 4>(args, panel, column);
        } else {
          float_tile<F, 1, 4>(args, panel, column);
        }
      }
    }
  }
  switch (args.m - column) {
    case 3:
      return float_panels<F, 3, 3>(args, column);
    case 2:
      return float_panels<F, 4, 2>(args, column);
    case 1:
      return float_panels<F, 8, 1>(args, column);
    default:
      return;
  }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

template <PanelFormat F>
constexpr MatmulEntry entry() {
  if constexpr (F.is_float()) {
    return {F, float_matmul<F>};
  } else {
    return {F, matmul<F>};
  }
}

constexpr auto kEntries = std::to_array<MatmulEntry>({
    entry<formats::kF32>(),
    entry<formats::kF16>(),
    entry<formats::kBF16>(),
    entry<formats::kQ4_0>(),
    entry<formats::kQ4_1>(),
    entry<formats::kQ5_0>(),
    entry<formats::kQ5_1>(),
    entry<formats::kQ8_0>(),
    entry<formats::kQ2_K>(),
    entry<formats::kQ3_K>(),
    entry<formats::kQ4_K>(),
    entry<formats::kQ5_K>(),
    entry<formats::kQ6_K>(),
    entry<formats::kIQ4_NL>(),
    entry<formats::kIQ4_XS>(),
    entry<formats::kMXFP4>(),
});

}  // namespace

std::span<const MatmulEntry> matmul_entries() { return kEntries; }

}  // namespace hearth::cpu::avx2
#endif
