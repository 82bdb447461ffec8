// Products of float matrices for ARMv8; needs only the base instructions.
#pragma once

#include "backend/cpu/neon_planes.h"

namespace hearth::cpu::neon {
namespace {

template <PanelFormat F>
inline Floats weights_at(const std::byte* panel, int64_t i) {
  if constexpr (F.bits == 32) return load_floats(panel + 4 * kPanelRows * i);
  if constexpr (!F.bfloat) return load_halves(panel + 2 * kPanelRows * i);
  const uint16x8_t narrow = vreinterpretq_u16_u8(vld1q_u8(bytes(panel) + 2 * kPanelRows * i));
  return {{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(narrow), 16)),
           vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(narrow), 16))}};
}

// P panels times C columns; several sums at once, so that a multiply-add need not wait for the one before it.
template <PanelFormat F, int P, int C>
void float_tile(const MatmulArgs& args, int64_t panel, int64_t column) {
  float32x4_t acc[P][C][kHalves];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[p][c][0] = acc[p][c][1] = vdupq_n_f32(0.0f);
  const std::byte* at = args.panels + panel * args.panel_stride;
  const float* x = args.x + column * args.x_stride;
  for (int64_t i = 0; i < args.k; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const Floats w = weights_at<F>(at + p * args.panel_stride, i);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half)
          acc[p][c][half] = vfmaq_n_f32(acc[p][c][half], w.half[half], x[c * args.x_stride + i]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) finish(args, panel + p, column + c, acc[p][c][0], acc[p][c][1]);
}

template <PanelFormat F, int C>
void float_panels(const MatmulArgs& args, int64_t column) {
  constexpr int P = C == 1 ? 4 : 2;
  int64_t panel = args.panel_begin;
  for (; panel + P <= args.panel_end; panel += P) float_tile<F, P, C>(args, panel, column);
  for (; panel < args.panel_end; ++panel) float_tile<F, 1, C>(args, panel, column);
}

template <PanelFormat F>
void float_matmul(const PanelFormat&, const MatmulArgs& args) {
  int64_t column = 0;
  for (; column + 4 <= args.m; column += 4) float_panels<F, 4>(args, column);
  for (; column + 2 <= args.m; column += 2) float_panels<F, 2>(args, column);
  for (; column < args.m; ++column) float_panels<F, 1>(args, column);
}

}  // namespace
}  // namespace hearth::cpu::neon
