// Matrix products for AVX-512 with VNNI: unsigned bytes times signed activations, four products added to an int32 lane by
// one instruction, so that no format needs an int16 step. Up to 8 columns read the planes as they lie, 8 rows a vector;
// more columns share four panels expanded once to bytes, 16 rows a vector.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/avx512vnni.h"
#include "backend/cpu/formats.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12's own header: its "undefined" vectors
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#include "backend/cpu/avx2_planes.h"

namespace hearth::cpu::avx512vnni {
namespace {

using WideInts = __m512i;
using WideFloats = __m512;

// Codes are made unsigned by an offset; sums begin at minus the offset times the sum of the activations.
template <PanelFormat F>
struct Codes {
  static constexpr int kZero = F.has_low     ? formats::kNestedZero
                               : F.bits == 8 ? 128
                               : F.has_table ? -table_min(F)
                                             : F.zero;
  static constexpr int kBlockSteps = F.block / 4;
  static constexpr int kBlocks = F.blocks_per_group();
  static constexpr bool kSuper = F.has_super();
};

template <PanelFormat F>
inline Ints codes_at(const std::byte* planes, [[maybe_unused]] const std::byte* low, int j) {
  if constexpr (F.has_low) return nested_codes(planes, low, j);
  const Ints code = stored_codes<F>(planes, j);
  if constexpr (F.bits == 8) return _mm256_xor_si256(code, _mm256_set1_epi8(static_cast<char>(0x80)));
  if constexpr (F.has_table) return from_table<F, Codes<F>::kZero>(code);
  return code;
}

// What the sums of the columns begin with: minus the offset times the sums of the activations, [group][C][blocks].
template <PanelFormat F, int C>
void write_offsets(const QuantizedRows& xq, int64_t groups, int32_t* to) {
  constexpr int kZero = Codes<F>::kZero;
  if constexpr (kZero == 0) return;
  const int16_t* sums = xq.sums;
  for (int64_t g = 0; g < groups; ++g, sums += 2 * xq.m, to += C * Codes<F>::kBlocks) {
    int c = 0;
    if constexpr (F.block == kGroup) {
      const __m128i factor = _mm_set1_epi16(-kZero);
      for (; c + 4 <= C; c += 4) {
        const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sums + 2 * c));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), _mm_madd_epi16(pairs, factor));
      }
      for (; c + 2 <= C; c += 2)
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + c), _mm_madd_epi16(load_8_bytes(sums + 2 * c), factor));
      for (; c < C; ++c) to[c] = -kZero * (sums[2 * c] + sums[2 * c + 1]);
    } else {
      const __m128i factor = _mm_set1_epi32(-kZero);
      for (; c + 2 <= C; c += 2)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * c),
                         _mm_mullo_epi32(_mm_cvtepi16_epi32(load_8_bytes(sums + 2 * c)), factor));
      for (; c < C; ++c) to[2 * c] = -kZero * sums[2 * c], to[2 * c + 1] = -kZero * sums[2 * c + 1];
    }
  }
}

// Vectors of one width: Ints and Floats of 8 rows, or of 16.
inline Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
inline WideFloats to_floats(WideInts v) { return _mm512_cvtepi32_ps(v); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline WideFloats multiply(WideFloats a, WideFloats b) { return _mm512_mul_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline WideFloats multiply_add(WideFloats a, WideFloats b, WideFloats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats all(float value, Floats /*like*/) { return _mm256_set1_ps(value); }
inline WideFloats all(float value, WideFloats /*like*/) { return _mm512_set1_ps(value); }
inline Ints all(int32_t value, Ints /*like*/) { return _mm256_set1_epi32(value); }
inline WideInts all(int32_t value, WideInts /*like*/) { return _mm512_set1_epi32(value); }
inline Ints dot(Ints sum, Ints codes, Ints x) { return _mm256_dpbusd_epi32(sum, codes, x); }
inline WideInts dot(WideInts sum, WideInts codes, WideInts x) { return _mm512_dpbusd_epi32(sum, codes, x); }
// Four activations of a column for every row, loaded by an instruction of their own: as a memory operand of the product
// they halve its speed (measured on Zen 4).
template <typename V>
inline V activations(const int8_t* x) {
  V four = all(word_at(x), V{});
  asm("" : "+v"(four));
  return four;
}

// One panel as stored, 8 rows a vector.
template <PanelFormat F>
struct StoredPanel {
  using I = Ints;
  using V = Floats;
  static constexpr int kVectors = 1;
  static constexpr int64_t kBytes = F.group_bytes(), kHeaderBytes = F.super_header_bytes();
  const std::byte *at, *low;
  void next() { at += kBytes, low += F.low_bytes(kGroup); }
  I codes(int /*r*/, int j) const { return codes_at<F>(at + F.group_scales_bytes(), low, j); }
  V scale(int /*r*/, int block) const { return block_scale<F>(at, block); }
  V min(int /*r*/, int block) const { return block_min<F>(at, block); }
  static V d(const std::byte* from, int /*r*/) { return factors_at<F>(from).d; }
  static V m(const std::byte* from, int /*r*/) { return factors_at<F>(from).m; }
};

// A group of four panels expanded, 16 rows a vector and two vectors side by side: codes of 8 steps, then floats: scales
// and minimums of the blocks, d and m of the group or, with its first group, of a header.
template <PanelFormat F>
struct ExpandedPanels {
  using I = WideInts;
  using V = WideFloats;
  static constexpr int kVectors = 2, kPanels = 4;
  static constexpr int kScales = 64 * kVectors * kSteps;
  static constexpr int kMins = kScales + (F.has_super() ? 64 * kVectors * F.blocks_per_group() : 0);
  static constexpr int kD = kMins + (F.has_super() && F.has_min ? 64 * kVectors * F.blocks_per_group() : 0);
  static constexpr int kM = kD + 64 * kVectors;
  static constexpr int64_t kBytes = kM + (F.has_min ? 64 * kVectors : 0), kHeaderBytes = 0;
  const std::byte* at;
  void next() { at += kBytes; }
  I codes(int r, int j) const { return _mm512_load_si512(at + 64 * (kVectors * j + r)); }
  V scale(int r, int block) const { return _mm512_load_ps(at + kScales + 64 * (kVectors * block + r)); }
  V min(int r, int block) const { return _mm512_load_ps(at + kMins + 64 * (kVectors * block + r)); }
  static V d(const std::byte* from, int r) { return _mm512_load_ps(from + kD + 64 * r); }
  static V m(const std::byte* from, int r) { return _mm512_load_ps(from + kM + 64 * r); }
};

// Panels times C columns, for a stretch of K.
template <PanelFormat F, template <PanelFormat> typename Panels, int C>
struct Tile {
  using Code = Codes<F>;
  using P = Panels<F>;
  using I = typename P::I;
  using V = typename P::V;
  static constexpr int R = P::kVectors;

  P panels;
  const int8_t* x;
  const float *dx, *scaled_sums;
  const int16_t* sums;
  const int32_t* offsets;
  int64_t k, m;
  V acc[R][C];
  V s[R][C], t[R][C];  // of the 256 elements under one header

  Tile(const P& first, const QuantizedRows& xq, const int32_t* first_offset)
      : panels(first),
        x(xq.codes),
        dx(xq.scales),
        scaled_sums(xq.scaled_sums),
        sums(xq.sums),
        offsets(first_offset),
        k(xq.k),
        m(xq.m) {}

  void block_sums(int block, I (&sum)[R][C]) const {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const I first = all(Code::kZero == 0 ? 0 : offsets[c * Code::kBlocks + block], I{});
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sum[r][c] = first;
    }
#pragma GCC unroll 8
    for (int j = block * Code::kBlockSteps; j < (block + 1) * Code::kBlockSteps; ++j) {
      I codes[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) codes[r] = panels.codes(r, j);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const I four = activations<I>(x + c * k + 4 * j);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) sum[r][c] = dot(sum[r][c], codes[r], four);
      }
    }
  }

  float block_sum(int c, int block) const {
    if constexpr (F.block == kGroup) return scaled_sums[c];
    return static_cast<float>(sums[2 * c + block]) * dx[c];
  }

  void add_group() {
    I sum[R][C];
    block_sums(0, sum);
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      const V d = P::d(panels.at, r);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        acc[r][c] = multiply_add(to_floats(sum[r][c]), multiply(d, all(dx[c], V{})), acc[r][c]);
        if constexpr (F.has_min) acc[r][c] = multiply_add(P::m(panels.at, r), all(block_sum(c, 0), V{}), acc[r][c]);
      }
    }
    next_group();
  }

  // Of a format with super scales.
  void add_scaled_group() {
    V scaled[R][C];
#pragma GCC unroll 2
    for (int block = 0; block < Code::kBlocks; ++block) {
      I sum[R][C];
      block_sums(block, sum);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        const V scale = panels.scale(r, block);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
          scaled[r][c] = block == 0 ? multiply(to_floats(sum[r][c]), scale)
                                    : multiply_add(to_floats(sum[r][c]), scale, scaled[r][c]);
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) s[r][c] = multiply_add(scaled[r][c], all(dx[c], V{}), s[r][c]);
      if constexpr (F.has_min) add_mins(r);
    }
    next_group();
  }
  void add_mins(int r) {
#pragma GCC unroll 2
    for (int block = 0; block < Code::kBlocks; ++block) {
      const V min = panels.min(r, block);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) t[r][c] = multiply_add(min, all(block_sum(c, block), V{}), t[r][c]);
    }
  }

  void next_group() {
    panels.next();
    x += kGroup;
    dx += m;
    scaled_sums += m;
    sums += 2 * m;
    offsets += C * Code::kBlocks;
  }

  void add_super_group(int64_t groups) {
    const std::byte* header = panels.at;
    panels.at += P::kHeaderBytes;
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) s[r][c] = t[r][c] = all(0.0f, V{});
#pragma GCC unroll 1
    for (int64_t i = 0; i < groups; ++i) add_scaled_group();
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        acc[r][c] = multiply_add(s[r][c], P::d(header, r), acc[r][c]);
        if constexpr (F.has_min) acc[r][c] = multiply_add(t[r][c], P::m(header, r), acc[r][c]);
      }
    }
  }

  void add_groups(int64_t groups) {
    if constexpr (Code::kSuper) {
      for (; groups > 0; groups -= kSuperGroups) add_super_group(std::min<int64_t>(groups, kSuperGroups));
    } else {
#pragma GCC unroll 1
      for (int64_t g = 0; g < groups; ++g) add_group();
    }
  }
};

template <PanelFormat F, int C>
void stored_columns(const MatmulArgs& args, int64_t panel_begin, int64_t column) {
  auto* offsets = reinterpret_cast<int32_t*>(args.scratch);
  const QuantizedRows xq = args.xq.from_row(column);
  write_offsets<F, C>(xq, args.k / kGroup, offsets);
  for (int64_t panel = panel_begin; panel < args.panel_end; ++panel) {
    const StoredPanel<F> stored{args.panels + panel * args.panel_stride, args.low + panel * F.low_bytes(args.k)};
    Tile<F, StoredPanel, C> tile(stored, xq, offsets);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) tile.acc[0][c] = _mm256_setzero_ps();
    tile.add_groups(args.k / kGroup);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) finish(args, panel, column + c, tile.acc[0][c]);
  }
}

constexpr int64_t kStoredColumns = 8;

// Columns [begin, begin + count) of the panels from `panel` on, count 1 to 8.
template <PanelFormat F>
void stored_products(const MatmulArgs& args, int64_t panel, int64_t begin, int64_t count) {
  static constexpr auto kTiles = []<size_t... I>(std::index_sequence<I...>) {
    return std::array{stored_columns<F, static_cast<int>(I) + 1>...};
  }(std::make_index_sequence<kStoredColumns>());
  kTiles[static_cast<size_t>(count - 1)](args, panel, begin);
}

// One panel's part of every vector, for `groups` groups.
template <PanelFormat F>
void expand(const std::byte* panel, const std::byte* low, int64_t groups, std::byte* to) {
  using E = ExpandedPanels<F>;
  constexpr int kApart = 64 * E::kVectors;
  auto put = [](std::byte* at, Floats values) { _mm256_store_ps(reinterpret_cast<float*>(at), values); };
  for (int64_t g = 0; g < groups; ++g, panel += F.group_bytes(), low += F.low_bytes(kGroup), to += E::kBytes) {
    if (!F.has_super() || g % kSuperGroups == 0) {
      const Factors factors = factors_at<F>(panel);
      put(to + E::kD, factors.d);
      if constexpr (F.has_min) put(to + E::kM, factors.m);
      panel += F.super_header_bytes();
    }
#pragma GCC unroll 8
    for (int j = 0; j < kSteps; ++j)
      _mm256_store_si256(reinterpret_cast<Ints*>(to + kApart * j), codes_at<F>(panel + F.group_scales_bytes(), low, j));
    for (int block = 0; F.has_super() && block < F.blocks_per_group(); ++block) {
      put(to + E::kScales + kApart * block, block_scale<F>(panel, block));
      if constexpr (F.has_min) put(to + E::kMins + kApart * block, block_min<F>(panel, block));
    }
  }
}

// A stretch of K of four panels, expanded.
struct Stretch {
  int64_t panel, first, length;
  int32_t* offsets;
  float* sums;  // [column of the block][32]: where sums wait for the next stretch
  const std::byte* expanded;
};

template <PanelFormat F, int C>
void expanded_tile(const MatmulArgs& args, const Stretch& stretch, int64_t column, float* waiting) {
  const QuantizedRows xq = args.xq.from_row(column).from_column(stretch.first);
  const int64_t groups = stretch.length / kGroup;
  write_offsets<F, C>(xq, groups, stretch.offsets);
  Tile<F, ExpandedPanels, C> tile({stretch.expanded}, xq, stretch.offsets);
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
      tile.acc[r][c] = stretch.first == 0 ? _mm512_setzero_ps() : _mm512_load_ps(waiting + 32 * c + 16 * r);
  tile.add_groups(groups);
  const bool ends = stretch.first + stretch.length == args.k;
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      if (ends) {
        finish(args, stretch.panel + 2 * r, column + c, _mm512_castps512_ps256(tile.acc[r][c]));
        finish(args, stretch.panel + 2 * r + 1, column + c, _mm512_extractf32x8_ps(tile.acc[r][c], 1));
      } else {
        _mm512_store_ps(waiting + 32 * c + 16 * r, tile.acc[r][c]);
      }
    }
  }
}

template <PanelFormat F>
void expanded_columns(const MatmulArgs& args, const Stretch& stretch, int64_t begin, int64_t end) {
  constexpr int kMost = F.has_super() && F.has_min ? 4 : 6;  // sums that fit the registers
  int64_t column = begin;
  auto waiting = [&] { return stretch.sums + 32 * (column - begin); };
  for (; column + kMost <= end; column += kMost) expanded_tile<F, kMost>(args, stretch, column, waiting());
  if (kMost > 4 && column + 4 <= end) expanded_tile<F, 4>(args, stretch, column, waiting()), column += 4;
  if (column + 2 <= end) expanded_tile<F, 2>(args, stretch, column, waiting()), column += 2;
  if (column < end) expanded_tile<F, 1>(args, stretch, column, waiting());
}

// Columns [begin, end) of the panels from `panel` on, four at a time; returns the first panel left.
template <PanelFormat F>
int64_t expanded_products(const MatmulArgs& args, int64_t begin, int64_t end, const Blocks& blocks) {
  constexpr int kPanels = ExpandedPanels<F>::kPanels;
  auto* offsets = reinterpret_cast<int32_t*>(args.scratch);
  auto* sums = reinterpret_cast<float*>(args.scratch + (6 * blocks.stretch / 16 * 4 + 63) / 64 * 64);
  auto* expanded = reinterpret_cast<std::byte*>(sums + blocks.columns * 32);
  int64_t panel = args.panel_begin;
  for (; panel + kPanels <= args.panel_end; panel += kPanels) {
    for (int64_t first = 0; first < args.k; first += blocks.stretch) {
      const int64_t length = std::min(blocks.stretch, args.k - first);
      for (int p = 0; p < kPanels; ++p)
        expand<F>(args.panels + (panel + p) * args.panel_stride + F.panel_bytes(first),
                  args.low + (panel + p) * F.low_bytes(args.k) + F.low_bytes(first), length / kGroup,
                  expanded + 32 * p);
      expanded_columns<F>(args, {panel, first, length, offsets, sums, expanded}, begin, end);
    }
  }
  return panel;
}

template <PanelFormat F>
void matmul(const PanelFormat&, const MatmulArgs& args) {
  if (args.m <= kStoredColumns) return stored_products<F>(args, args.panel_begin, 0, args.m);
  const Blocks blocks = blocks_of(args.k);
  int64_t panel = args.panel_begin;
  for (int64_t begin = 0; begin < args.m; begin += blocks.columns)
    panel = expanded_products<F>(args, begin, std::min<int64_t>(begin + blocks.columns, args.m), blocks);
  if (panel == args.panel_end) return;
  for (int64_t begin = 0; begin < args.m; begin += kStoredColumns)
    stored_products<F>(args, panel, begin, std::min<int64_t>(kStoredColumns, args.m - begin));
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

constexpr auto kEntries = std::to_array<MatmulEntry>({
    {formats::kQ4_0, matmul<formats::kQ4_0>},
    {formats::kQ4_1, matmul<formats::kQ4_1>},
    {formats::kQ5_0, matmul<formats::kQ5_0>},
    {formats::kQ5_1, matmul<formats::kQ5_1>},
    {formats::kQ8_0, matmul<formats::kQ8_0>},
    {formats::kQ2_K, matmul<formats::kQ2_K>},
    {formats::kQ3_K, matmul<formats::kQ3_K>},
    {formats::kQ4_K, matmul<formats::kQ4_K>},
    {formats::kQ5_K, matmul<formats::kQ5_K>},
    {formats::kQ6_K, matmul<formats::kQ6_K>},
    {formats::kIQ4_NL, matmul<formats::kIQ4_NL>},
    {formats::kIQ4_XS, matmul<formats::kIQ4_XS>},
    {formats::kMXFP4, matmul<formats::kMXFP4>},
    {formats::kI4S, matmul<formats::kI4S>},
    {formats::kI4H, matmul<formats::kI4H>},
    {formats::kI5, matmul<formats::kI5>},
    {formats::kI6, matmul<formats::kI6>},
    {formats::kI8, matmul<formats::kI8>},
});

}  // namespace

std::span<const MatmulEntry> matmul_entries() { return kEntries; }

}  // namespace hearth::cpu::avx512vnni
#endif
