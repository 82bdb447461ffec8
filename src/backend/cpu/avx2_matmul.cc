// Matrix products for AVX2. Up to 8 columns read the planes as they lie; more columns share a panel that was expanded
// once to bytes. Codes are unsigned bytes times signed activations (maddubs), as many products added in int16 as provably
// fit.
#if defined(__x86_64__)
#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/avx2.h"
#include "backend/cpu/formats.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "backend/cpu/avx2_planes.h"

namespace hearth::cpu::avx2 {
namespace {

constexpr int kActivationMax = 127;

// How the codes of a format are multiplied.
template <PanelFormat F>
struct Codes {
  static constexpr int kSpan = table_max(F) - table_min(F);
  // Signed codes: |w| times x with w's sign. A table of a small span is shifted to unsigned numbers instead.
  static constexpr bool kSigned = F.bits == 8 || F.has_low || kSpan > 31;
  static constexpr int kZero = kSigned ? 0 : F.has_table ? -table_min(F) : F.zero;
  static constexpr int kMax = kSigned ? 128 : F.has_table ? kSpan : (1 << F.bits) - 1;
  static constexpr int kFit = 32767 / (2 * kActivationMax * kMax);  // results of maddubs that add up in int16
  static constexpr int kBlockSteps = F.block / 4;
  static constexpr int kUseful = kFit < kBlockSteps ? kFit : kBlockSteps;
  static constexpr int kAdds = kUseful >= 8 ? 8 : kUseful >= 4 ? 4 : kUseful >= 2 ? 2 : 1;
  static_assert(kAdds * 2 * kActivationMax * kMax <= 32767, "an int16 sum could saturate");
  static constexpr int kBlocks = F.blocks_per_group();
  static constexpr bool kSuper = F.has_super();
  static constexpr bool kHasZero = kZero != 0;
  // One scale for the group, and many widened sums: scaled once, as int32, instead of each as it is widened.
  static constexpr bool kScaledLast = kSuper && kBlocks == 1 && kAdds <= 2;
};

// A group expanded to bytes: 8 vectors of codes, then what the format has of: scales of the blocks as int16 pairs, -zero
// times them, minimums as floats; d and m of the group, or of a header with its first group.
template <PanelFormat F>
struct Expanded {
  static constexpr int kScales = 32 * kSteps;
  static constexpr int kZeros = kScales + (F.has_super() ? 32 * F.blocks_per_group() : 0);
  static constexpr int kMins = kZeros + (F.has_super() && Codes<F>::kHasZero ? 32 : 0);
  static constexpr int kD = kMins + (F.has_super() && F.has_min ? 32 * F.blocks_per_group() : 0);
  static constexpr int kM = kD + 32;
  static constexpr int kBytes = kM + (F.has_min ? 32 : 0);
};

inline Ints broadcast_word(const void* at) { return _mm256_set1_epi32(word_at(at)); }
// The compiler may not re-associate sums across this, which would turn a few registers into many and spill them.
inline void keep_order(Ints& sum) { asm("" : "+x"(sum)); }

// The codes of step j of a group, ready to be multiplied.
template <PanelFormat F>
inline Ints codes_at(const std::byte* planes, [[maybe_unused]] const std::byte* low, int j) {
  if constexpr (F.has_low) return _mm256_sub_epi8(nested_codes(planes, low, j), _mm256_set1_epi8(formats::kNestedZero));
  const Ints code = stored_codes<F>(planes, j);
  if constexpr (F.has_table) return from_table<F, Codes<F>::kZero>(code);
  return code;
}

// The integer scales of two blocks as pairs of int16, one pair a row: operands of madd.
template <PanelFormat F>
inline Ints scale_pairs(const std::byte* first, const std::byte* second) {
  const __m128i pairs = _mm_unpacklo_epi8(load_8_bytes(first), load_8_bytes(second));
  return F.scale == ScaleKind::kSuperI8 ? _mm256_cvtepi8_epi16(pairs) : _mm256_cvtepu8_epi16(pairs);
}
template <PanelFormat F>
inline Ints scales_of(const std::byte* group, int block) {
  return scale_pairs<F>(group + block * kPanelRows, group + block * kPanelRows);
}
// -zero times the scale of either half of the group, for the sums of the activations of either half.
template <PanelFormat F>
inline Ints zeros_of(const std::byte* group) {
  const Ints zero = _mm256_set1_epi16(-Codes<F>::kZero);
  if constexpr (!F.has_super()) return zero;
  return _mm256_mullo_epi16(scale_pairs<F>(group, group + (F.block == 16 ? kPanelRows : 0)), zero);
}

// `groups` groups of a panel to bytes.
template <PanelFormat F>
void expand(const std::byte* panel, const std::byte* low, int64_t groups, std::byte* to) {
  using E = Expanded<F>;
  auto put = [](std::byte* at, Ints values) { _mm256_store_si256(reinterpret_cast<Ints*>(at), values); };
  for (int64_t g = 0; g < groups; ++g, panel += F.group_bytes(), low += F.low_bytes(kGroup), to += E::kBytes) {
    if (!F.has_super() || g % kSuperGroups == 0) {
      const Factors factors = factors_at<F>(panel);
      put(to + E::kD, _mm256_castps_si256(factors.d));
      if constexpr (F.has_min) put(to + E::kM, _mm256_castps_si256(factors.m));
      panel += F.super_header_bytes();
    }
#pragma GCC unroll 8
    for (int j = 0; j < kSteps; ++j) put(to + 32 * j, codes_at<F>(panel + F.group_scales_bytes(), low, j));
    if constexpr (!F.has_super()) continue;
    for (int block = 0; block < F.blocks_per_group(); ++block) {
      put(to + E::kScales + 32 * block, scales_of<F>(panel, block));
      if constexpr (F.has_min) put(to + E::kMins + 32 * block, _mm256_castps_si256(block_min<F>(panel, block)));
    }
    if constexpr (Codes<F>::kHasZero) put(to + E::kZeros, zeros_of<F>(panel));
  }
}

// P panels times C columns of quantised activations. kPlanes: `at` are panels as stored; otherwise expanded ones.
template <PanelFormat F, bool kPlanes, int P, int C>
struct Tile {
  using Code = Codes<F>;
  using E = Expanded<F>;
  static constexpr int64_t kBytes = kPlanes ? F.group_bytes() : E::kBytes;

  const std::byte* at[P];
  const std::byte* low = nullptr;  // of one panel as stored
  const int8_t* x;
  const float* dx;
  const float* scaled_sums;
  const int16_t* sums;
  int64_t k, m;
  Floats acc[P][C];
  Floats s[P][C], t[P][C];  // of the 256 elements under one header

  explicit Tile(const QuantizedRows& xq)
      : x(xq.codes), dx(xq.scales), scaled_sums(xq.scaled_sums), sums(xq.sums), k(xq.k), m(xq.m) {}

  static Floats floats_at(const std::byte* from) { return _mm256_load_ps(reinterpret_cast<const float*>(from)); }
  Ints codes(int p, int j) const {
    if constexpr (kPlanes) return codes_at<F>(at[p] + F.group_scales_bytes(), low, j);
    return load(at[p] + 32 * j);
  }
  Ints scale(int p, int block) const {
    if constexpr (!Code::kSuper) return _mm256_set1_epi16(1);
    if constexpr (kPlanes) return scales_of<F>(at[p], block);
    return load(at[p] + E::kScales + 32 * block);
  }
  Ints zeros(int p) const {
    if constexpr (kPlanes || !Code::kSuper) return zeros_of<F>(at[p]);
    return load(at[p] + E::kZeros);
  }
  Floats min(int p, int block) const {
    if constexpr (kPlanes) return block_min<F>(at[p], block);
    return floats_at(at[p] + E::kMins + 32 * block);
  }
  static Factors factors(const std::byte* from) {
    if constexpr (kPlanes) return factors_at<F>(from);
    Factors out{};
    out.d = floats_at(from + E::kD);
    if constexpr (F.has_min) out.m = floats_at(from + E::kM);
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
      const Ints factor = Code::kScaledLast ? _mm256_set1_epi16(1) : scale(p, F.block == 16 ? first / 4 : 0);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Ints wide = _mm256_madd_epi16(sum[p][c], factor);
        isum[p][c] = first == 0 ? wide : _mm256_add_epi32(isum[p][c], wide);
      }
    }
  }

  Floats block_sum(int c, int block) const {
    if constexpr (F.block == kGroup) return _mm256_broadcast_ss(scaled_sums + c);
    return _mm256_set1_ps(static_cast<float>(sums[2 * c + block]) * dx[c]);
  }

  void add_mins(int p) {
#pragma GCC unroll 2
    for (int block = 0; block < Code::kBlocks; ++block) {
      const Floats least = min(p, block);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) t[p][c] = _mm256_fmadd_ps(least, block_sum(c, block), t[p][c]);
    }
  }

  void add_group() {
    Ints isum[P][C];
#pragma GCC unroll 8
    for (int first = 0; first < kSteps; first += Code::kAdds) add_steps(first, isum);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      Ints zero{};
      if constexpr (Code::kHasZero) zero = zeros(p);
      if constexpr (Code::kScaledLast) {
        const Ints wide = _mm256_srai_epi32(scale(p, 0), 16);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) isum[p][c] = _mm256_mullo_epi32(isum[p][c], wide);
      }
      const Factors factor = Code::kSuper ? Factors{} : factors(at[p]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Floats step = _mm256_broadcast_ss(dx + c);
        if constexpr (Code::kHasZero)
          isum[p][c] = _mm256_add_epi32(isum[p][c], _mm256_madd_epi16(broadcast_word(sums + 2 * c), zero));
        const Floats sum = _mm256_cvtepi32_ps(isum[p][c]);
        if constexpr (Code::kSuper) {
          s[p][c] = _mm256_fmadd_ps(sum, step, s[p][c]);
        } else {
          acc[p][c] = _mm256_fmadd_ps(sum, _mm256_mul_ps(factor.d, step), acc[p][c]);
          if constexpr (F.has_min) acc[p][c] = _mm256_fmadd_ps(factor.m, block_sum(c, 0), acc[p][c]);
        }
      }
      if constexpr (Code::kSuper && F.has_min) add_mins(p);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) at[p] += kBytes;
    if constexpr (kPlanes) low += F.low_bytes(kGroup);
    x += kGroup;
    dx += m;
    scaled_sums += m;
    sums += 2 * m;
  }

  void add_super_group(int64_t groups) {
    Factors factor[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      factor[p] = factors(at[p]);
      if constexpr (kPlanes) at[p] += F.super_header_bytes();
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) s[p][c] = t[p][c] = _mm256_setzero_ps();
    }
#pragma GCC unroll 1
    for (int64_t i = 0; i < groups; ++i) add_group();
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        acc[p][c] = _mm256_fmadd_ps(s[p][c], factor[p].d, acc[p][c]);
        if constexpr (F.has_min) acc[p][c] = _mm256_fmadd_ps(t[p][c], factor[p].m, acc[p][c]);
      }
    }
  }

  // Onto acc, for `groups` groups.
  void add_groups(int64_t groups) {
    if constexpr (Code::kSuper) {
      for (; groups > 0; groups -= kSuperGroups) add_super_group(std::min<int64_t>(groups, kSuperGroups));
    } else {
#pragma GCC unroll 1
      for (int64_t g = 0; g < groups; ++g) add_group();
    }
  }
};

// Panel after panel: the hardware follows one stream through memory at full speed, two at half.
template <PanelFormat F, int C>
void planes_columns(const MatmulArgs& args) {
  for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
    Tile<F, true, 1, C> tile(args.xq);
    tile.at[0] = args.panels + panel * args.panel_stride;
    tile.low = args.low + panel * F.low_bytes(args.k);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) tile.acc[0][c] = _mm256_setzero_ps();
    tile.add_groups(args.k / kGroup);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) finish(args, panel, c, tile.acc[0][c]);
  }
}

// A stretch of K of some panels, expanded.
struct Stretch {
  int64_t panel, first, length;
  float* sums;  // [column of the block][panel][8]: where sums wait for the next stretch
  const std::byte* expanded;
};

template <PanelFormat F, int P, int C>
void expanded_tile(const MatmulArgs& args, const Stretch& stretch, int64_t column, float* waiting) {
  Tile<F, false, P, C> tile(args.xq.from_row(column).from_column(stretch.first));
  const int64_t groups = stretch.length / kGroup;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    tile.at[p] = stretch.expanded + p * groups * Expanded<F>::kBytes;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      tile.acc[p][c] = stretch.first == 0 ? _mm256_setzero_ps() : _mm256_load_ps(waiting + kPanelRows * (P * c + p));
  }
  tile.add_groups(groups);
  const bool ends = stretch.first + stretch.length == args.k;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      if (ends) {
        finish(args, stretch.panel + p, column + c, tile.acc[p][c]);
      } else {
        _mm256_store_ps(waiting + kPanelRows * (P * c + p), tile.acc[p][c]);
      }
    }
  }
}

// Columns [begin, end) of P panels from `panel` on.
template <PanelFormat F, int P>
void expanded_columns(const MatmulArgs& args, int64_t panel, int64_t begin, int64_t end, const Blocks& blocks) {
  auto* sums = reinterpret_cast<float*>(args.scratch);
  std::byte* expanded = args.scratch + blocks.columns * P * kPanelRows * 4;
  for (int64_t first = 0; first < args.k; first += blocks.stretch) {
    const Stretch stretch{panel, first, std::min(blocks.stretch, args.k - first), sums, expanded};
    const int64_t groups = stretch.length / kGroup;
    for (int p = 0; p < P; ++p)
      expand<F>(args.panels + (panel + p) * args.panel_stride + F.panel_bytes(first),
                args.low + (panel + p) * F.low_bytes(args.k) + F.low_bytes(first), groups,
                expanded + p * groups * Expanded<F>::kBytes);
    int64_t column = begin;
    auto waiting = [&] { return sums + P * kPanelRows * (column - begin); };
    for (; column + 4 <= end; column += 4) expanded_tile<F, P, 4>(args, stretch, column, waiting());
    if (column + 2 <= end) expanded_tile<F, P, 2>(args, stretch, column, waiting()), column += 2;
    if (column < end) expanded_tile<F, P, 1>(args, stretch, column, waiting());
  }
}

template <PanelFormat F>
void matmul(const PanelFormat&, const MatmulArgs& args) {
  switch (args.m) {
    case 1:
      return planes_columns<F, 1>(args);
    case 2:
      return planes_columns<F, 2>(args);
    case 3:
      return planes_columns<F, 3>(args);
    case 4:
      return planes_columns<F, 4>(args);
    case 5:
      return planes_columns<F, 5>(args);
    case 6:
      return planes_columns<F, 6>(args);
    case 7:
      return planes_columns<F, 7>(args);
    case 8:
      return planes_columns<F, 8>(args);
    default:
      break;
  }
  constexpr int P = 2;  // panels that share each activation
  const Blocks blocks = blocks_of(args.k);
  for (int64_t begin = 0; begin < args.m; begin += blocks.columns) {
    const int64_t end = std::min<int64_t>(begin + blocks.columns, args.m);
    int64_t panel = args.panel_begin;
    for (; panel + P <= args.panel_end; panel += P) expanded_columns<F, P>(args, panel, begin, end, blocks);
    if (panel < args.panel_end) expanded_columns<F, 1>(args, panel, begin, end, blocks);
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
    entry<formats::kF32>(),  entry<formats::kF16>(),    entry<formats::kBF16>(),   entry<formats::kQ4_0>(),
    entry<formats::kQ4_1>(), entry<formats::kQ5_0>(),   entry<formats::kQ5_1>(),   entry<formats::kQ8_0>(),
    entry<formats::kQ2_K>(), entry<formats::kQ3_K>(),   entry<formats::kQ4_K>(),   entry<formats::kQ5_K>(),
    entry<formats::kQ6_K>(), entry<formats::kIQ4_NL>(), entry<formats::kIQ4_XS>(), entry<formats::kMXFP4>(),
    entry<formats::kI4S>(),  entry<formats::kI4H>(),    entry<formats::kI5>(),     entry<formats::kI6>(),
    entry<formats::kI8>(),
});

}  // namespace

std::span<const MatmulEntry> matmul_entries() { return kEntries; }

}  // namespace hearth::cpu::avx2
#endif
