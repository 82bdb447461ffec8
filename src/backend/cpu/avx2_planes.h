// Reading panels with 256-bit vectors: what the AVX2 and the AVX-512 products share. Included inside a target region; all
// is in an unnamed namespace, so that the two compilations do not meet.
#pragma once

namespace hearth::cpu {
namespace {

constexpr int kSteps = kGroup / 4;  // vectors of codes in a group

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
// The format's table with `offset` added, as bytes.
template <PanelFormat F, int offset>
struct Table {
  static constexpr std::array<int8_t, 16> shifted() {
    std::array<int8_t, 16> out{};
    for (size_t i = 0; i < 16; ++i) out[i] = static_cast<int8_t>(static_cast<uint8_t>(F.table[i] + offset));
    return out;
  }
  alignas(16) static constexpr std::array<int8_t, 16> kBytes = shifted();
};

using Ints = __m256i;
using Floats = __m256;

inline Ints load(const void* at) { return _mm256_loadu_si256(static_cast<const Ints*>(at)); }
inline __m128i load_8_bytes(const void* at) { return _mm_loadl_epi64(static_cast<const __m128i*>(at)); }
inline Floats load_halves(const void* at) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at))); }
inline int32_t word_at(const void* at) {
  int32_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Bits of step j in a plane of `bits` bits, moved to bit position `to`.
template <int bits, int to>
inline Ints plane_bits(const std::byte* plane, int j) {
  const int shift = bits * (j / bits) - to;
  const Ints mask = _mm256_set1_epi8(static_cast<char>(((1 << bits) - 1) << to));
  const Ints packed = load(plane + 32 * (j % bits));
  if (shift == 0) return _mm256_and_si256(packed, mask);
  return _mm256_and_si256(shift > 0 ? _mm256_srli_epi16(packed, shift) : _mm256_slli_epi16(packed, -shift), mask);
}

// The codes of step j of a group as they are stored, 8-bit ones signed.
template <PanelFormat F>
inline Ints stored_codes(const std::byte* planes, int j) {
  if constexpr (F.bits == 2) {
    return plane_bits<2, 0>(planes, j);
  } else if constexpr (F.bits == 3) {
    return _mm256_or_si256(plane_bits<2, 0>(planes, j), plane_bits<1, 2>(planes + 64, j));
  } else if constexpr (F.bits == 4) {
    return plane_bits<4, 0>(planes, j);
  } else if constexpr (F.bits == 5) {
    return _mm256_or_si256(plane_bits<4, 0>(planes, j), plane_bits<1, 4>(planes + 128, j));
  } else if constexpr (F.bits == 6) {
    return _mm256_or_si256(plane_bits<4, 0>(planes, j), plane_bits<2, 4>(planes + 128, j));
  } else {
    return load(planes + 32 * j);
  }
}
// The integers of a nested format with kNestedZero added: 8 * high + low.
inline Ints nested_codes(const std::byte* planes, const std::byte* low, int j) {
  return _mm256_add_epi8(_mm256_slli_epi16(plane_bits<4, 0>(planes, j), 3), plane_bits<4, 0>(low, j));
}
template <PanelFormat F, int offset>
inline Ints from_table(Ints code) {
  const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(&Table<F, offset>::kBytes));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), code);
}

// Super scales and minimums of one block as floats, a row a lane.
template <PanelFormat F>
inline Floats block_scale(const std::byte* group, int block) {
  const __m128i bytes = load_8_bytes(group + block * kPanelRows);
  return _mm256_cvtepi32_ps(F.scale == ScaleKind::kSuperI8 ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}
template <PanelFormat F>
inline Floats block_min(const std::byte* group, int block) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8_bytes(group + (F.blocks_per_group() + block) * kPanelRows)));
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
  if constexpr (F.has_low) out.d = _mm256_mul_ps(out.d, _mm256_set1_ps(0.25f));
  if constexpr (F.has_min) {
    out.m = load_halves(at + 2 * kPanelRows);
    if constexpr (F.has_super()) out.m = _mm256_xor_ps(out.m, _mm256_set1_ps(-0.0f));
  }
  return out;
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

// How a product of many columns is cut: panels are expanded to bytes for a stretch of K and multiplied with a block of
// columns while both stay in the second-level cache; sums wait in memory between stretches.
struct Blocks {
  int64_t stretch;  // of K, a multiple of 256 or all of it
  int64_t columns;
};
inline Blocks blocks_of(int64_t k) {
  constexpr int64_t kColumnsBytes = 256 * 1024;
  const int64_t pieces = (k + kStretchMax - 1) / kStretchMax;
  const int64_t stretch = pieces == 1 ? k : ((k + pieces - 1) / pieces + 255) / 256 * 256;
  const int64_t fit = kColumnsBytes / stretch / 12 * 12;
  return {stretch, fit < 24 ? 24 : fit > kColumnsMax ? kColumnsMax : fit};
}

}  // namespace
}  // namespace hearth::cpu
