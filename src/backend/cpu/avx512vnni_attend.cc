// Attention of tiles to pages of codes with AVX-512 and VNNI: attend_lanes.h on vectors of 16.
#if defined(__x86_64__)
#include "backend/cpu/avx2_math.h"
#include "backend/cpu/avx512vnni.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12's own header: its "undefined" vectors
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#include "backend/cpu/attend_lanes.h"

namespace hearth::cpu::avx512vnni {
namespace {

inline __m512i load_bytes(const void* at) { return _mm512_loadu_si512(at); }

struct Lanes {
  static constexpr int kLanes = 16;
  static constexpr bool kReadsCodes = false;
  using F = __m512;
  // Of 32 registers: the sums, the lanes and one broadcast.
  template <class P, int Q>
  static constexpr int block_vectors() {
    return 2;
  }

  [[gnu::always_inline]] static F all(float x) { return _mm512_set1_ps(x); }
  [[gnu::always_inline]] static F load(const float* at) { return _mm512_loadu_ps(at); }
  [[gnu::always_inline]] static F halves(const uint16_t* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  [[gnu::always_inline]] static void store(float* at, F x) { _mm512_storeu_ps(at, x); }
  [[gnu::always_inline]] static F abs(F x) { return _mm512_abs_ps(x); }
  [[gnu::always_inline]] static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  [[gnu::always_inline]] static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  [[gnu::always_inline]] static F div(F a, F b) { return _mm512_div_ps(a, b); }
  [[gnu::always_inline]] static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  [[gnu::always_inline]] static F max(F x, F most) {
    return _mm512_max_ps(x, most);
  }  // the second where the first is NaN
  [[gnu::always_inline]] static __m256 half(F x, int index) {
    return index == 0 ? _mm512_castps512_ps256(x) : _mm512_extractf32x8_ps(x, 1);
  }
  [[gnu::always_inline]] static F tanh(F x) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(avx2::tanh8(half(x, 0))), avx2::tanh8(half(x, 1)), 1);
  }
  [[gnu::always_inline]] static float ceil(float x) {
    return _mm_cvtss_f32(_mm_ceil_ss(_mm_setzero_ps(), _mm_set_ss(x)));
  }
  // x at lanes [begin, end), counted from lane `first`; `other` elsewhere.
  [[gnu::always_inline]] static F inside(F x, int first, int begin, int end, float other) {
    const __m512i lane = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32(first));
    const __mmask16 in = static_cast<__mmask16>(_mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(begin)) &
                                                _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(end)));
    return _mm512_mask_blend_ps(in, all(other), x);
  }
  [[gnu::always_inline]] static float largest(F x) {
    const __m256 eight = _mm256_max_ps(half(x, 0), half(x, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  [[gnu::always_inline]] static float largest_of(__m512i x) {
    const __m256i eight = _mm256_max_epu32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
  }
  [[gnu::always_inline]] static float largest_bits(const F (&x)[2]) {
    return largest_of(_mm512_max_epu32(_mm512_castps_si512(x[0]), _mm512_castps_si512(x[1])));
  }
  [[gnu::always_inline]] static float sum(const F (&x)[2]) {
    return avx2::sum_lanes(
        _mm256_add_ps(_mm256_add_ps(half(x[0], 0), half(x[0], 1)), _mm256_add_ps(half(x[1], 0), half(x[1], 1))));
  }
  [[gnu::always_inline]] static F exp2_below(F x) {
    const __m512 least = all(kExp2Min), round = all(kExp2Round);
    const __m512 rounded = _mm512_add_ps(_mm512_max_ps(least, x), round);  // the second operand where one is NaN
    const __m512 r = _mm512_sub_ps(x, _mm512_sub_ps(rounded, round));
    __m512 p = _mm512_fmadd_ps(all(kExp2Term[4]), r, all(kExp2Term[3]));
    p = _mm512_fmadd_ps(p, r, all(kExp2Term[2]));
    p = _mm512_fmadd_ps(p, r, all(kExp2Term[1]));
    p = _mm512_fmadd_ps(p, r, all(kExp2Term[0]));
    p = _mm512_fmadd_ps(p, r, all(1.0f));
    return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ), p,
                               _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(rounded), 23)));
  }
  [[gnu::always_inline]] static __m256i rounded(F x, F factor) {
    return _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(x, factor)));
  }
  [[gnu::always_inline]] static void store_codes(const float* x, F factor, int16_t* codes) {
    for (int i = 0; i < kPagePositions; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), rounded(load(x + i), factor));
  }
  // Rows of queries, padded to 16.
  [[gnu::always_inline]] static float largest_magnitude(const float* x, int64_t n) {
    __m512i most = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16)
      most = _mm512_max_epu32(most, _mm512_and_si512(load_bytes(x + i), _mm512_set1_epi32(0x7fffffff)));
    return largest_of(most);
  }
  [[gnu::always_inline]] static void store_rounded(const float* x, int64_t n, float inverse, int16_t* codes) {
    for (int64_t i = 0; i < n; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), rounded(load(x + i), all(inverse)));
  }

  struct Pairs {
    __m512i even, odd;
  };
  [[gnu::always_inline]] static Pairs widen(__m512i bytes) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
  }
  [[gnu::always_inline]] static __m512i broadcast_pair(const int16_t* a) {
    int pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  // Pairs of codes as int16 a lane.
  struct Codes16 {
    using Element = int16_t;
    using A = __m512i;
    using B = __m512i;
    using Acc = __m512i;
    static constexpr bool kCodes = true, kRaw = false;
    static constexpr int kElements = 2, kLaneBytes = 4;
    [[gnu::always_inline]] static Acc zero() { return _mm512_setzero_si512(); }
    [[gnu::always_inline]] static A broadcast(const int16_t* a) { return broadcast_pair(a); }
    [[gnu::always_inline]] static B load(const std::byte* b) { return load_bytes(b); }
    [[gnu::always_inline]] static Acc add(Acc acc, B b, A a) { return _mm512_dpwssd_epi32(acc, b, a); }
    [[gnu::always_inline]] static F to_float(Acc acc) { return _mm512_cvtepi32_ps(acc); }
  };
  // [steps][lanes][4] codes to [2 steps][lanes][2] int16.
  static void expand_codes(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step, out += 8 * lanes) {
      for (int64_t lane = 0; lane < lanes; lane += 16, in += 64) {
        const Pairs pairs = widen(load_bytes(in));
        _mm512_storeu_si512(out + 4 * lane, pairs.even);
        _mm512_storeu_si512(out + 4 * (lanes + lane), pairs.odd);
      }
    }
  }
  // [steps][lanes] words to [4 steps][lanes][2] int16.
  static void expand_nibbles(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step, out += 16 * lanes) {
      for (int64_t lane = 0; lane < lanes; lane += 16, in += 64) {
        const __m512i words = load_bytes(in);
        const __m512i low[3] = {_mm512_slli_epi16(words, 12), _mm512_slli_epi16(words, 8), _mm512_slli_epi16(words, 4)};
        for (int i = 0; i < 3; ++i) _mm512_storeu_si512(out + 4 * (i * lanes + lane), _mm512_srai_epi16(low[i], 12));
        _mm512_storeu_si512(out + 4 * (3 * lanes + lane), _mm512_srai_epi16(words, 12));
      }
    }
  }
};

}  // namespace

// Floats are no faster in longer vectors here, nor are few queries, which wait for memory.
void attend(const AttendArgs& args) {
  if (args.layout.bits == 16 || args.n <= kRawMax) return avx2::attend(args);
  if (args.layout.bits == 8) return attend_codes<Lanes, Lanes::Codes16, Lanes::Codes16>(args);
  attend_codes<Lanes, Nibbles<Lanes::Codes16>, Nibbles<Lanes::Codes16>>(args);
}

}  // namespace hearth::cpu::avx512vnni

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
