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
