// math8.h on vectors of 4 lanes: the same steps, the same constants. For the ARMv8 .cc files only.
#pragma once

#include <arm_neon.h>

#include "backend/cpu/math8.h"

namespace hearth::cpu::neon {

inline float32x4_t exp4(float32x4_t x) {
  const float32x4_t least = vdupq_n_f32(kExpMin), most = vdupq_n_f32(kExpMax);
  const float32x4_t clamped = vminq_f32(vmaxq_f32(x, least), most);
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(clamped, kLog2E));
  float32x4_t r = vfmaq_n_f32(clamped, n, -kLn2High);
  r = vfmaq_n_f32(r, n, -kLn2Low);
  float32x4_t p = vfmaq_n_f32(vdupq_n_f32(kExp1), r, kExp0);
  p = vfmaq_f32(vdupq_n_f32(kExp2), p, r);
  p = vfmaq_f32(vdupq_n_f32(kExp3), p, r);
  p = vfmaq_f32(vdupq_n_f32(kExp4), p, r);
  p = vfmaq_f32(vdupq_n_f32(kExp5), p, r);
  p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  float32x4_t out = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
  out = vbslq_f32(vcltq_f32(x, least), vdupq_n_f32(0.0f), out);
  out = vbslq_f32(vcgtq_f32(x, most), vreinterpretq_f32_u32(vdupq_n_u32(0x7f800000)), out);
  return vbslq_f32(vceqq_f32(x, x), out, x);
}

inline float32x4_t tanh4(float32x4_t x) {
  const float32x4_t one = vdupq_n_f32(1.0f), two = vdupq_n_f32(2.0f);
  return vsubq_f32(one, vdivq_f32(two, vaddq_f32(exp4(vmulq_f32(two, x)), one)));
}

inline float32x4_t silu4(float32x4_t x) { return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), exp4(vnegq_f32(x)))); }

inline float32x4_t gelu_tanh4(float32x4_t x) {
  const float32x4_t one = vdupq_n_f32(1.0f);
  const float32x4_t cube = vmulq_f32(x, vfmaq_f32(one, vmulq_n_f32(x, kGeluA), x));
  return vmulq_f32(vmulq_n_f32(x, 0.5f), vaddq_f32(one, tanh4(vmulq_n_f32(cube, kGeluB))));
}

// sum8() of math8.h.
inline float sum_lanes(float32x4_t low, float32x4_t high) {
  const float32x4_t four = vaddq_f32(low, high);
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

}  // namespace hearth::cpu::neon
