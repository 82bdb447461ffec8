// Attention with AVX2: attend_lanes.h on vectors of 8.
#if defined(__x86_64__)
#include "backend/cpu/avx2_math.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "backend/cpu/attend_lanes.h"

namespace hearth::cpu::avx2 {
namespace {

inline __m256i load_bytes(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

struct Lanes {
  static constexpr int kLanes = 8;
  static constexpr bool kReadsCodes = true;  // as they lie in a page
  using F = __m256;
  // 16 registers: the sums, the lanes and one broadcast, for codes a product too.
  template <class P, int Q>
  static constexpr int block_vectors() {
    if constexpr (in_groups<P>() && P::kRaw) return Q <= 2 ? 2 : 1;
    return Q <= 3 && !P::kCodes ? 4 : 2;
  }

  [[gnu::always_inline]] static F all(float x) { return _mm256_set1_ps(x); }
  [[gnu::always_inline]] static F load(const float* at) { return _mm256_loadu_ps(at); }
  [[gnu::always_inline]] static void store(float* at, F x) { _mm256_storeu_ps(at, x); }
  [[gnu::always_inline]] static F halves(const uint16_t* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  [[gnu::always_inline]] static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  [[gnu::always_inline]] static F add(F a, F b) { return _mm256_add_ps(a, b); }
  [[gnu::always_inline]] static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  [[gnu::always_inline]] static F abs(F x) { return _mm256_andnot_ps(all(-0.0f), x); }
  [[gnu::always_inline]] static F min(F a, F b) { return _mm256_min_ps(a, b); }
  [[gnu::always_inline]] static F div(F a, F b) { return _mm256_div_ps(a, b); }
  [[gnu::always_inline]] static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  [[gnu::always_inline]] static F max(F x, F most) {
    return _mm256_max_ps(x, most);
  }  // the second where the first is NaN
  [[gnu::always_inline]] static F tanh(F x) { return tanh8(x); }
  [[gnu::always_inline]] static float ceil(float x) {
    return _mm_cvtss_f32(_mm_ceil_ss(_mm_setzero_ps(), _mm_set_ss(x)));
  }
  // x at lanes [begin, end), counted from lane `first`; `other` elsewhere.
  [[gnu::always_inline]] static F inside(F x, int first, int begin, int end, float other) {
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    const __m256i in = _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(begin - 1)),
                                        _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
    return _mm256_blendv_ps(all(other), x, _mm256_castsi256_ps(in));
  }
  [[gnu::always_inline]] static float largest(F x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  [[gnu::always_inline]] static float largest_of(__m256i x) {
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1))));
  }
  [[gnu::always_inline]] static float largest_bits(const F (&x)[4]) {
    return largest_of(_mm256_max_epu32(_mm256_max_epu32(_mm256_castps_si256(x[0]), _mm256_castps_si256(x[1])),
                                       _mm256_max_epu32(_mm256_castps_si256(x[2]), _mm256_castps_si256(x[3]))));
  }
  [[gnu::always_inline]] static float sum(const F (&x)[4]) {
    return sum_lanes(_mm256_add_ps(_mm256_add_ps(x[0], x[1]), _mm256_add_ps(x[2], x[3])));
  }
  [[gnu::always_inline]] static F exp2_below(F x) {
    const __m256 least = all(kExp2Min), round = all(kExp2Round);
    const __m256 rounded = _mm256_add_ps(_mm256_max_ps(least, x), round);  // the second operand where one is NaN
    const __m256 r = _mm256_sub_ps(x, _mm256_sub_ps(rounded, round));
    __m256 p = _mm256_fmadd_ps(all(kExp2Term[4]), r, all(kExp2Term[3]));
    p = _mm256_fmadd_ps(p, r, all(kExp2Term[2]));
    p = _mm256_fmadd_ps(p, r, all(kExp2Term[1]));
    p = _mm256_fmadd_ps(p, r, all(kExp2Term[0]));
    p = _mm256_fmadd_ps(p, r, all(1.0f));
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(rounded), 23)));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, least, _CMP_NLT_UQ));
  }
  [[gnu::always_inline]] static __m256i rounded(F x, F factor) { return _mm256_cvtps_epi32(_mm256_mul_ps(x, factor)); }
  // 16 numbers to int16, in order.
  [[gnu::always_inline]] static __m256i narrow(__m256i low, __m256i high) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  }
  [[gnu::always_inline]] static void store_codes(const float* x, F factor, int16_t* codes) {
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 16 * half),
                          narrow(rounded(load(x + 16 * half), factor), rounded(load(x + 16 * half + 8), factor)));
  }
  [[gnu::always_inline]] static float largest_magnitude(const float* x, int64_t n) {
    __m256i most = _mm256_setzero_si256();
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) most = _mm256_max_epu32(most, _mm256_and_si256(load_bytes(x + i), magnitude));
    if (i < n) {
      const __m256 rest = _mm256_maskload_ps(x + i, first_lanes(n - i));
      most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(rest), magnitude));
    }
    return largest_of(most);
  }
  template <typename T>
  [[gnu::always_inline]] static void store_rounded(const float* x, int64_t n, float inverse, T* codes) {
    const __m256 factor = all(inverse);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const __m256i words = narrow(rounded(load(x + i), factor), rounded(load(x + i + 8), factor));
      if constexpr (sizeof(T) == 2) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), words);
      } else {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i),
                         _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
      }
    }
    for (; i < n; ++i) codes[i] = static_cast<T>(_mm_cvtss_si32(_mm_set_ss(x[i] * inverse)));
  }

  // Runs of four codes a lane, as they lie in a page.
  struct Pairs {
    __m256i even, odd;
  };
  [[gnu::always_inline]] static Pairs widen(__m256i bytes) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
  }
  // Written so that the sum stays where it is: compilers otherwise rotate the sums of a block through memory.
  [[gnu::always_inline]] static __m256i add_pairs(__m256i acc, __m256i b, __m256i a) {
    asm("vpaddd %1, %0, %0" : "+x"(acc) : "x"(_mm256_madd_epi16(b, a)));
    return acc;
  }
  [[gnu::always_inline]] static __m256i broadcast_pair(const int16_t* a) {
    int pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  struct Codes8 {
    using Element = int16_t;
    using A = Pairs;
    using B = Pairs;
    using Acc = __m256i;
    static constexpr bool kCodes = true, kRaw = true;
    static constexpr int kElements = 4, kLaneBytes = 4;
    [[gnu::always_inline]] static Acc zero() { return _mm256_setzero_si256(); }
    [[gnu::always_inline]] static A broadcast(const int16_t* a) { return {broadcast_pair(a), broadcast_pair(a + 2)}; }
    [[gnu::always_inline]] static B load(const std::byte* b) { return widen(load_bytes(b)); }
    [[gnu::always_inline]] static Acc add(Acc acc, const B& b, const A& a) {
      return add_pairs(add_pairs(acc, b.even, a.even), b.odd, a.odd);
    }
    [[gnu::always_inline]] static F to_float(Acc acc) { return _mm256_cvtepi32_ps(acc); }
  };
  // Runs of eight codes a lane; pair i is elements 2 i and 2 i + 1.
  struct FourPairs {
    __m256i pair[4];
  };
  [[gnu::always_inline]] static FourPairs widen_nibbles(__m256i words) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(words, 12), 12), _mm256_srai_epi16(_mm256_slli_epi16(words, 8), 12),
            _mm256_srai_epi16(_mm256_slli_epi16(words, 4), 12), _mm256_srai_epi16(words, 12)};
  }
  struct Codes4 {
    using Element = int16_t;
    using A = const int16_t*;
    using B = FourPairs;
    using Acc = __m256i;
    static constexpr bool kCodes = true, kRaw = true;
    static constexpr int kElements = 8, kLaneBytes = 4;
    [[gnu::always_inline]] static Acc zero() { return _mm256_setzero_si256(); }
    [[gnu::always_inline]] static A broadcast(const int16_t* a) { return a; }
    [[gnu::always_inline]] static B load(const std::byte* b) { return widen_nibbles(load_bytes(b)); }
    [[gnu::always_inline]] static Acc add(Acc acc, const B& b, A a) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) acc = add_pairs(acc, b.pair[i], broadcast_pair(a + 2 * i));
      return acc;
    }
    [[gnu::always_inline]] static F to_float(Acc acc) { return _mm256_cvtepi32_ps(acc); }
  };
  // Pairs of codes as int16 a lane.
  struct Codes16 {
    using Element = int16_t;
    using A = __m256i;
    using B = __m256i;
    using Acc = __m256i;
    static constexpr bool kCodes = true, kRaw = false;
    static constexpr int kElements = 2, kLaneBytes = 4;
    [[gnu::always_inline]] static Acc zero() { return _mm256_setzero_si256(); }
    [[gnu::always_inline]] static A broadcast(const int16_t* a) { return broadcast_pair(a); }
    [[gnu::always_inline]] static B load(const std::byte* b) { return load_bytes(b); }
    [[gnu::always_inline]] static Acc add(Acc acc, B b, A a) { return add_pairs(acc, b, a); }
    [[gnu::always_inline]] static F to_float(Acc acc) { return _mm256_cvtepi32_ps(acc); }
  };
  // [steps][lanes][4] codes to [2 steps][lanes][2] int16.
  static void expand_codes(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step, out += 8 * lanes) {
      for (int64_t lane = 0; lane < lanes; lane += 8, in += 32) {
        const Pairs pairs = widen(load_bytes(in));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * lane), pairs.even);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * (lanes + lane)), pairs.odd);
      }
    }
  }
  // [steps][lanes] words to [4 steps][lanes][2] int16.
  static void expand_nibbles(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step, out += 16 * lanes) {
      for (int64_t lane = 0; lane < lanes; lane += 8, in += 32) {
        const FourPairs pairs = widen_nibbles(load_bytes(in));
        for (int i = 0; i < 4; ++i)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * (i * lanes + lane)), pairs.pair[i]);
      }
    }
  }

  [[gnu::always_inline]] static uint16_t half_of(float x) { return static_cast<uint16_t>(_cvtss_sh(x, 0)); }
  [[gnu::always_inline]] static float float_of(uint16_t half) { return _cvtsh_ss(half); }
  // b + a and b - a of neighbours h = 1, 2 and 4 apart.
  [[gnu::always_inline]] static F butterflies(F x) {
    const F one = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
    const F two = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
    const F four = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    x = _mm256_add_ps(_mm256_permute_ps(x, 0xb1), _mm256_xor_ps(x, one));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0x4e), _mm256_xor_ps(x, two));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, four));
  }
};

}  // namespace

void attend(const AttendArgs& args) {
  if (args.layout.bits == 16) return attend_floats<Lanes>(args);
  if (args.layout.bits == 8) return attend_codes<Lanes, Lanes::Codes8, Lanes::Codes16>(args);
  attend_codes<Lanes, Nibbles<Lanes::Codes4>, Nibbles<Lanes::Codes16>>(args);
}
void merge(const MergeArgs& args) { merge_lanes<Lanes>(args); }
float quantize_i8(const float* x, int64_t n, int8_t* codes) { return quantize<Lanes>(x, n, 127, codes); }
uint16_t quantize_i4(const float* x, int8_t* codes) { return quantize_nibbles<Lanes>(x, codes); }
void hadamard(float* x, int64_t n, int block) { rotate<Lanes>(x, n, block); }

}  // namespace hearth::cpu::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
