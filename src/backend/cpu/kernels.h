// The table of inner loops of one instruction set. scalar.cc defines what every entry computes, to the bit; the other
// files compute the same bits faster. Rules that make that possible ("one answer"):
// - integer sums are exact, so their order is free;
// - float steps are written once, in order, with explicit fused multiply-add; the compiler may not contract;
// - a sum over floats runs in 8 lanes (element i in lane i % 8), then folds by sum8():
// ((l0+l4)+(l2+l6))+((l1+l5)+(l3+l7));
// - exp and tanh are the polynomials of math8.h, not the C library's.
// - zeros and NaNs: where a sign of zero could depend on the order it is defined; any NaN counts as the same as any
// other. All functions run on the calling thread, allocate nothing, and read no memory beyond the sizes given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/panel.h"

namespace hearth::cpu {

// Activations quantised for the integer kernels: per 32 elements one float scale, per 16 one sum of the codes.
// d = amax / 127; code = round-half-even(x * (127 / amax)), in -127..127; all zero if amax is below kQuantizeMin (127 /
// amax has to stay finite); if amax is not finite, d is NaN and the codes 0 (so that a NaN upstream stays visible).
// amax by comparing magnitudes' bit patterns as integers.
inline constexpr float kQuantizeMin = 0x1p-118f;
struct QuantizedRows {
  int8_t* codes;  // [m][k]
  float* scales;  // [m][k / 32]
  int16_t* sums;  // [m][k / 16]
  int64_t k;      // multiple of 32
};

// What happens to a finished element: v = sum (+ bias[row]); out = v, or out + v when accumulate.
struct Epilogue {
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;
};

// A matrix in panels (tensor/panel.h) and where its product goes: out[m * out_stride + row] for rows of the given
// panels.
struct MatmulArgs {
  const std::byte* panels;  // panel 0
  int64_t panel_stride;     // bytes
  int64_t rows;             // of the matrix; the last panel may have fewer than 8 and nothing beyond them is written
  int64_t k;
  int64_t panel_begin, panel_end;
  int m;           // columns (tokens), >= 1
  const float* x;  // float formats: [m][x_stride]
  int64_t x_stride;
  QuantizedRows xq;  // quantised formats
  float* out;
  int64_t out_stride;
  Epilogue epilogue;
  std::byte* scratch;  // matmul_scratch_bytes(k) of this thread, 64-byte aligned
};

// One output element, all formats, k in order:
//   float formats: acc = fma(float(w[k]), x[k], acc)
//   quantised, per group of 32: acc = fma(float(isum), d * dx, acc), then with minimums acc = fma(float(msum), m * dx,
//   acc)
//     kF16, kE8M0 (block 32): isum = sum((code - zero) * xq) (table: table[code]), msum = sum(xq), d and m the block's
//     scale and minimum super scales:           isum = sum over blocks of scale_b * sum((code - zero) * xq), msum = sum
//     over blocks of min_b * sum_b(xq),
//                             d the header's d, m = -dmin
using MatmulFn = void (*)(const PanelFormat& format, const MatmulArgs& args);
struct MatmulEntry {
  PanelFormat format;
  MatmulFn function;
};
// Enough for any kernel to expand two panels to bytes, with up to five numbers of 32 bits a row and group beside them.
constexpr int64_t matmul_scratch_bytes(int64_t k) { return 64 + 2 * kPanelRows * (k + k / kGroup * 5 * 4); }

inline constexpr int kPagePositions = 32;

// One page of one KV head against a tile of queries (all heads of the group, several tokens), online softmax (Milakov
// and Gimelshein 2018; FlashAttention's recurrence). Per query i:
//   s[j] = (fma chain over d of q[d] * k[d][j]) * scale; with soft_cap: soft_cap * tanh(s / soft_cap); only begin[i] <=
//   j < end[i] count m' = max(m, max s) ignoring NaN, then + 0 (so never -0);  c = exp(m - m');  p[j] = exp(s[j] - m'),
//   0 outside;  m = m' l = fma(l, c, sum of p over lanes j % 8 added as ((p[j]+p[j+8])+(p[j+16]+p[j+24])), then sum8)
//   o[d] = o[d] * c, then for j from begin to end - 1: o[d] = fma(p[j], v[j][d], o[d])
// Queries with begin >= end are left alone.
struct AttendArgs {
  const float* q;  // [n][q_stride], head_dim each
  int64_t q_stride;
  int n;
  int head_dim;           // any, not only multiples of 8
  const float* k;         // [head_dim][32]
  const float* v;         // [32][head_dim]
  const int* begin;       // [n] slots within the page
  const int* end;         // [n]
  float scale, soft_cap;  // soft_cap 0: none
  float* m;               // [n] running maximum, -inf at start
  float* l;               // [n] running sum
  float* o;               // [n][o_stride] running output, not yet divided by l
  int64_t o_stride;
};

enum class Activation : uint8_t { kSilu, kGeluTanh };

struct Kernels {
  std::string_view isa;                      // "scalar", "avx2", "neon"
  bool (*supported)();                       // by this machine
  std::span<const MatmulEntry> (*matmul)();  // formats not listed run on the scalar loop; null: none
  void (*quantize_rows)(const float* x, int64_t x_stride, int m, const QuantizedRows& out);
  // out[i] = x[i] * r * weight[i], r = 1 / sqrt(sum8 of lanes fma(x, x) / n + eps); out may be x
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // out = act(gate) * up; out may be gate
  void (*glu)(Activation activation, const float* gate, const float* up, int64_t n, float* out);
  void (*attend)(const AttendArgs& args);
  void (*f16_to_f32)(const uint16_t* in, int64_t n, float* out);
  void (*f32_to_f16)(const float* in, int64_t n, uint16_t* out);
  // out[i] = float(in[i]) * scale[i % 32] (keys, [d][32]) or scale[i / row] (values, rows of `row`)
  void (*i8_keys_to_f32)(const int8_t* in, const float* scale, int64_t n, float* out);
  void (*i8_values_to_f32)(const int8_t* in, const float* scale, int64_t row, int64_t n, float* out);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
#elif defined(__aarch64__)
extern const Kernels kNeon;
extern const Kernels kNeonDotprod;
#endif

// Slowest first; the first entry always works.
std::span<const Kernels* const> all_kernels();
// The fastest table this machine supports.
const Kernels* best_kernels();
// The table named `isa`; null if this build has none of that name or the machine does not support it.
const Kernels* find_kernels(std::string_view isa);
// The loop of scalar.cc: any format, any machine.
void matmul_scalar(const PanelFormat& format, const MatmulArgs& args);
// The function for a format, the scalar loop if the table has none of its own.
MatmulFn find_matmul(const Kernels& kernels, const PanelFormat& format);

}  // namespace hearth::cpu
