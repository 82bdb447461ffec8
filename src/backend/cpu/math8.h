// Elementary functions as fixed polynomials, so that every instruction set gives the same bits.
// Written for one lane; the vector files repeat the same steps (same constants, same fused multiply-adds) on 8 lanes.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace hearth::cpu {

// exp: x = n ln2 + r, |r| <= ln2 / 2, a polynomial of degree 6 in r (Cephes' expf coefficients), scaled by 2^n in two
// halves. Relative error below 2e-7. Below kExpMin the result is exactly 0, above kExpMax it is infinite; NaN gives
// NaN.
inline constexpr float kExpMin = -87.0f, kExpMax = 88.0f;
inline constexpr float kLog2E = 0x1.715476p+0f, kLn2High = 0x1.62e400p-1f, kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kExp0 = 1.9875691500e-4f, kExp1 = 1.3981999507e-3f, kExp2 = 8.3334519073e-3f,
                       kExp3 = 4.1665795894e-2f, kExp4 = 1.6666665459e-1f, kExp5 = 5.0000001201e-1f;

inline float exp_f32(float x) {
  if (!(x >= kExpMin)) return x != x ? x : 0.0f;
  if (x > kExpMax) return std::bit_cast<float>(0x7f800000u);
  const float n = std::nearbyint(x * kLog2E);  // round half to even, the default mode
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = std::fma(kExp0, r, kExp1);
  p = std::fma(p, r, kExp2);
  p = std::fma(p, r, kExp3);
  p = std::fma(p, r, kExp4);
  p = std::fma(p, r, kExp5);
  p = std::fma(p, r * r, r) + 1.0f;
  const auto exponent = static_cast<int32_t>(n);
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

// 2^x for x <= 0 (or barely above, or NaN): n = x rounded, a polynomial of degree 5 in x - n, times 2^n. Relative error below
// 2e-7. Below kExp2Min exactly 0. Adding kExp2Round leaves n + 127, the exponent's bits of 2^n, as the sum's lowest bits.
inline constexpr float kExp2Min = -126.0f, kExp2Round = 0x1.8p+23f + 127.0f;
inline constexpr float kExp2Term[5] = {0x1.62e42ap-1f, 0x1.ebf9bcp-3f, 0x1.c6b752p-5f, 0x1.3cea88p-7f, 0x1.5bba14p-10f};

inline float exp2_below(float x) {
  if (!(x >= kExp2Min)) return x != x ? x : 0.0f;
  const float rounded = x + kExp2Round;
  const float r = x - (rounded - kExp2Round);
  float p = std::fma(kExp2Term[4], r, kExp2Term[3]);
  p = std::fma(p, r, kExp2Term[2]);
  p = std::fma(p, r, kExp2Term[1]);
  p = std::fma(p, r, kExp2Term[0]);
  return std::fma(p, r, 1.0f) * std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) << 23);
}

// 2^x for whole x <= 0 (or NaN): 0 below -126 and for NaN.
inline float power_of_two(float x) {
  return std::bit_cast<float>(static_cast<int32_t>((x > -127.0f ? x : -127.0f) + 127.0f) << 23);
}

// tanh(x) = 1 - 2 / (exp(2x) + 1), exact at the ends; absolute error below 2e-7.
inline float tanh_f32(float x) { return 1.0f - 2.0f / (exp_f32(2.0f * x) + 1.0f); }

// x / (1 + exp(-x))
inline float silu_f32(float x) { return x / (1.0f + exp_f32(-x)); }

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
inline constexpr float kGeluA = 0.044715f, kGeluB = 0.79788456080286535588f;
inline float gelu_tanh_f32(float x) {
  const float inner = kGeluB * (x * std::fma(kGeluA * x, x, 1.0f));
  return 0.5f * x * (1.0f + tanh_f32(inner));
}

// The order in which 8 lanes become one.
inline float sum8(const float* l) { return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])); }

}  // namespace hearth::cpu
