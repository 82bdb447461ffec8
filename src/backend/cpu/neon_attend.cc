// Attention with NEON: attend_lanes.h on vectors of 4.
#if defined(__aarch64__)
#include "backend/cpu/attend_lanes.h"
#include "backend/cpu/neon.h"
#include "backend/cpu/neon_math.h"

namespace hearth::cpu::neon {
namespace {

struct Lanes {
  static constexpr int kLanes = 4;
  static constexpr bool kReadsCodes = false;
  using F = float32x4_t;
  template <class P, int Q>  // of 32 registers: the sums, the lanes and one broadcast
  static constexpr int block_vectors() {
    return 4;
  }

  [[gnu::always_inline]] static F all(float x) { return vdupq_n_f32(x); }
  [[gnu::always_inline]] static F load(const float* at) { return vld1q_f32(at); }
  [[gnu::always_inline]] static void store(float* at, F x) { vst1q_f32(at, x); }
  [[gnu::always_inline]] static F halves(const uint16_t* at) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at)));
  }
  [[gnu::always_inline]] static F mul(F a, F b) { return vmulq_f32(a, b); }
  [[gnu::always_inline]] static F add(F a, F b) { return vaddq_f32(a, b); }
  [[gnu::always_inline]] static F sub(F a, F b) { return vsubq_f32(a, b); }
  [[gnu::always_inline]] static F abs(F x) { return vabsq_f32(x); }
  [[gnu::always_inline]] static F min(F a, F b) { return vminnmq_f32(a, b); }
  [[gnu::always_inline]] static F div(F a, F b) { return vdivq_f32(a, b); }
  [[gnu::always_inline]] static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  [[gnu::always_inline]] static F max(F x, F most) { return vmaxnmq_f32(x, most); }  // ignores NaN
  [[gnu::always_inline]] static F tanh(F x) { return tanh4(x); }
  [[gnu::always_inline]] static float ceil(float x) { return __builtin_ceilf(x); }
  // x at lanes [begin, end), counted from lane `first`; `other` elsewhere.
  [[gnu::always_inline]] static F inside(F x, int first, int begin, int end, float other) {
    const int32x4_t lane = vaddq_s32(int32x4_t{0, 1, 2, 3}, vdupq_n_s32(first));
    const uint32x4_t in = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
    return vbslq_f32(in, x, all(other));
  }
  [[gnu::always_inline]] static float largest(F x) { return vmaxnmvq_f32(x); }
  [[gnu::always_inline]] static float largest_of(uint32x4_t x) {
    const uint32_t bits = vmaxvq_u32(x);
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
  }
  [[gnu::always_inline]] static float largest_bits(const F (&x)[8]) {
    uint32x4_t most = vreinterpretq_u32_f32(x[0]);
#pragma GCC unroll 8
    for (int v = 1; v < 8; ++v) most = vmaxq_u32(most, vreinterpretq_u32_f32(x[v]));
    return largest_of(most);
  }
  [[gnu::always_inline]] static float sum(const F (&x)[8]) {
    return sum_lanes(vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[4], x[6])),
                     vaddq_f32(vaddq_f32(x[1], x[3]), vaddq_f32(x[5], x[7])));
  }
  [[gnu::always_inline]] static F exp2_below(F x) {
    const F least = all(kExp2Min), round = all(kExp2Round);
    const F rounded = vaddq_f32(vmaxq_f32(x, least), round);
    const F r = vsubq_f32(x, vsubq_f32(rounded, round));
    F p = vfmaq_f32(all(kExp2Term[3]), all(kExp2Term[4]), r);
    p = vfmaq_f32(all(kExp2Term[2]), p, r);
    p = vfmaq_f32(all(kExp2Term[1]), p, r);
    p = vfmaq_f32(all(kExp2Term[0]), p, r);
    p = vfmaq_f32(all(1.0f), p, r);
    p = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(rounded), 23)));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), vcltq_f32(x, least)));
  }
  [[gnu::always_inline]] static int16x4_t rounded(F x, F factor) {
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(x, factor)));
  }
  [[gnu::always_inline]] static void store_codes(const float* x, F factor, int16_t* codes) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) vst1_s16(codes + 4 * v, rounded(load(x + 4 * v), factor));
  }
  [[gnu::always_inline]] static float largest_magnitude(const float* x, int64_t n) {
    uint32x4_t most = vdupq_n_u32(0);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(load(x + i)), vdupq_n_u32(0x7fffffff)));
    for (; i < n; ++i) most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(all(x[i])), vdupq_n_u32(0x7fffffff)));
    return largest_of(most);
  }
  template <typename T>
  [[gnu::always_inline]] static void store_rounded(const float* x, int64_t n, float inverse, T* codes) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      const int16x8_t words = vcombine_s16(rounded(load(x + i), all(inverse)), rounded(load(x + i + 4), all(inverse)));
      if constexpr (sizeof(T) == 2) {
        vst1q_s16(codes + i, words);
      } else {
        vst1_s8(codes + i, vmovn_s16(words));
      }
    }
    for (; i < n; ++i) codes[i] = static_cast<T>(vcvtns_s32_f32(x[i] * inverse));
  }

  // One code as int16 a lane.
  struct Codes16 {
    using Element = int16_t;
    using A = int16x4_t;
    using B = int16x4_t;
    using Acc = int32x4_t;
    static constexpr bool kCodes = true, kRaw = false;
    static constexpr int kElements = 1, kLaneBytes = 2;
    [[gnu::always_inline]] static Acc zero() { return vdupq_n_s32(0); }
    [[gnu::always_inline]] static A broadcast(const int16_t* a) { return vdup_n_s16(*a); }
    [[gnu::always_inline]] static B load(const std::byte* b) { return vld1_s16(reinterpret_cast<const int16_t*>(b)); }
    [[gnu::always_inline]] static Acc add(Acc acc, B b, A a) { return vmlal_s16(acc, b, a); }
    [[gnu::always_inline]] static F to_float(Acc acc) { return vcvtq_f32_s32(acc); }
  };
  // [steps][lanes][4] codes to [4 steps][lanes] int16.
  static void expand_codes(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step) {
      auto* to = reinterpret_cast<int16_t*>(out) + 4 * step * lanes;
      for (int64_t lane = 0; lane < lanes; lane += 8, in += 32) {
        const int8x8x4_t four = vld4_s8(reinterpret_cast<const int8_t*>(in));
        for (int i = 0; i < 4; ++i) vst1q_s16(to + kPlaceInFour[i] * lanes + lane, vmovl_s8(four.val[i]));
      }
    }
  }
  // [steps][lanes] words to [8 steps][lanes] int16.
  static void expand_nibbles(const std::byte* in, int64_t steps, int64_t lanes, std::byte* out) {
    for (int64_t step = 0; step < steps; ++step) {
      auto* to = reinterpret_cast<int16_t*>(out) + 8 * step * lanes;
      for (int64_t lane = 0; lane < lanes; lane += 8, in += 32) {
        const int16x8x2_t halves = vld2q_s16(reinterpret_cast<const int16_t*>(in));
        for (int i = 0; i < 2; ++i) {
          int16_t* at = to + i * lanes + lane;
          vst1q_s16(at, vshrq_n_s16(vshlq_n_s16(halves.val[i], 12), 12));
          vst1q_s16(at + 2 * lanes, vshrq_n_s16(vshlq_n_s16(halves.val[i], 8), 12));
          vst1q_s16(at + 4 * lanes, vshrq_n_s16(vshlq_n_s16(halves.val[i], 4), 12));
          vst1q_s16(at + 6 * lanes, vshrq_n_s16(halves.val[i], 12));
        }
      }
    }
  }

  [[gnu::always_inline]] static uint16_t half_of(float x) {
    return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(all(x))), 0);
  }
  [[gnu::always_inline]] static float float_of(uint16_t half) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
  }
  // b + a and b - a of neighbours h = 1 and 2 apart.
  [[gnu::always_inline]] static F butterflies(F x) {
    x = vaddq_f32(vrev64q_f32(x), vmulq_f32(x, F{1.0f, -1.0f, 1.0f, -1.0f}));
    return vaddq_f32(vextq_f32(x, x, 2), vmulq_f32(x, F{1.0f, 1.0f, -1.0f, -1.0f}));
  }
};

}  // namespace

void attend(const AttendArgs& args) {
  if (args.layout.bits == 16) return attend_floats<Lanes>(args);
  if (args.layout.bits == 8) return attend_codes<Lanes, Lanes::Codes16, Lanes::Codes16>(args);
  attend_codes<Lanes, Nibbles<Lanes::Codes16>, Nibbles<Lanes::Codes16>>(args);
}
void merge(const MergeArgs& args) { merge_lanes<Lanes>(args); }
float quantize_i8(const float* x, int64_t n, int8_t* codes) { return quantize<Lanes>(x, n, 127, codes); }
uint16_t quantize_i4(const float* x, int8_t* codes) { return quantize_nibbles<Lanes>(x, codes); }
void hadamard(float* x, int64_t n, int block) { rotate<Lanes>(x, n, block); }

}  // namespace hearth::cpu::neon
#endif
