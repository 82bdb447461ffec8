// The AVX2 table, and the loops over single rows.
#if defined(__x86_64__)
#include "backend/cpu/avx2.h"

#include <cstring>
#include <limits>

#include "backend/cpu/avx2_math.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace hearth::cpu::avx2 {
namespace {

inline __m256i magnitude(const float* x) {
  return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), _mm256_set1_epi32(0x7fffffff));
}

inline int32_t max_lane(__m256i lanes) {
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline float as_float(int32_t bits) {
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

// 8 floats of a group, scaled and rounded to the nearest even integer.
inline __m256i rounded(const float* x, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

// One group of 32: codes, the sums of its halves, and the scale.
inline float quantize_group(const float* x, int8_t* codes, int16_t* sums) {
  const __m256i largest = _mm256_max_epi32(_mm256_max_epi32(magnitude(x), magnitude(x + 8)),
                                           _mm256_max_epi32(magnitude(x + 16), magnitude(x + 24)));
  const int32_t bits = max_lane(largest);
  const float amax = as_float(bits);
  const bool finite = bits < 0x7f800000;
  if (!finite || amax < kQuantizeMin) {
    std::memset(codes, 0, kGroup);
    sums[0] = sums[1] = 0;
    return finite ? 0.0f : as_float(0x7fc00000);
  }
  const __m256 inverse = _mm256_set1_ps(127.0f / amax);
  const __m256i low = _mm256_packs_epi32(rounded(x, inverse), rounded(x + 8, inverse));
  const __m256i high = _mm256_packs_epi32(rounded(x + 16, inverse), rounded(x + 24, inverse));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works within 128-bit halves
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), bytes);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  const __m256i eights = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0x4e));
  const __m256i halves = _mm256_add_epi32(eights, _mm256_shuffle_epi32(eights, 0xb1));
  sums[0] = static_cast<int16_t>(_mm_cvtsi128_si32(_mm256_castsi256_si128(halves)));
  sums[1] = static_cast<int16_t>(_mm_cvtsi128_si32(_mm256_extracti128_si256(halves, 1)));
  return amax / 127.0f;
}

template <Activation activation>
inline __m256 gated(__m256 x, __m256 y) {
  return _mm256_mul_ps(activation == Activation::kSilu ? silu8(x) : gelu_tanh8(x), y);
}

template <Activation activation>
void glu_of(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, gated<activation>(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  if (i == n) return;
  const __m256i rest = first_lanes(n - i);  // masked stores cost tens of cycles on some processors
  const __m256 x = _mm256_maskload_ps(gate + i, rest), y = _mm256_maskload_ps(up + i, rest);
  _mm256_maskstore_ps(out + i, rest, gated<activation>(x, y));
}

inline __m256 normed(__m256 x, __m256 r, __m256 weight) { return _mm256_mul_ps(_mm256_mul_ps(x, r), weight); }

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
  __m256 squares = _mm256_setzero_ps();
  const int64_t whole = n / 8 * 8;
  for (int64_t i = 0; i < whole; i += 8) {
    const __m256 each = _mm256_loadu_ps(x + i);
    squares = _mm256_fmadd_ps(each, each, squares);
  }
  const __m256i rest = first_lanes(n - whole);
  if (whole < n) {  // the lanes beyond n add 0 * 0
    const __m256 each = _mm256_maskload_ps(x + whole, rest);
    squares = _mm256_fmadd_ps(each, each, squares);
  }
  const __m128 mean = _mm_set_ss(sum_lanes(squares) / static_cast<float>(n) + eps);
  const __m256 r = _mm256_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(mean)));
  for (int64_t i = 0; i < whole; i += 8)
    _mm256_storeu_ps(out + i, normed(_mm256_loadu_ps(x + i), r, _mm256_loadu_ps(weight + i)));
  if (whole == n) return;
  const __m256 last = _mm256_maskload_ps(x + whole, rest), last_weight = _mm256_maskload_ps(weight + whole, rest);
  _mm256_maskstore_ps(out + whole, rest, normed(last, r, last_weight));
}

void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out) {
  if (activation == Activation::kSilu) return glu_of<Activation::kSilu>(gate, up, n, out);
  glu_of<Activation::kGeluTanh>(gate, up, n, out);
}

void f32_to_f16(const float* in, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i)
    out[i] = static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(in[i]), _MM_FROUND_TO_NEAREST_INT)));
}

}  // namespace hearth::cpu::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace hearth::cpu {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

constinit const Kernels kAvx2 = {
    .isa = "avx2",
    .supported = supported,
    .below = nullptr,
    .matmul = avx2::matmul_entries,
    .quantize_rows = avx2::quantize_rows,
    .rms_norm = avx2::rms_norm,
    .glu = avx2::glu,
    .attend = avx2::attend,
    .merge = avx2::merge,
    .f32_to_f16 = avx2::f32_to_f16,
    .quantize_i8 = avx2::quantize_i8,
    .quantize_i4 = avx2::quantize_i4,
    .hadamard = avx2::hadamard,
};

}  // namespace hearth::cpu
#endif
