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
#include <cstring>
#include <span>
#include <string_view>

#include "backend/cpu/attend.h"
#include "tensor/panel.h"

namespace hearth::cpu {

// Activations quantised for the integer kernels: per 32 elements one float scale and one scaled sum, per 16 one sum of
// the codes. What belongs to a group lies side by side for all rows, since kernels take several rows at once.
// d = amax / 127; code = round-half-even(x * (127 / amax)), in -127..127; all zero if amax is below kQuantizeMin (127 /
// amax has to stay finite); if amax is not finite, d is NaN and the codes 0 (so that a NaN upstream stays visible).
// amax by comparing magnitudes' bit patterns as integers.
inline constexpr float kQuantizeMin = 0x1p-118f;
struct QuantizedRows {
  int8_t* codes;       // [m][k]
  float* scales;       // [k / 32][m]
  float* scaled_sums;  // [k / 32][m]: float(sum of the 32 codes) * scale
  int16_t* sums;       // [k / 32][m][2]: of the codes of either half
  int64_t k;           // multiple of 32
  int64_t m;

  static constexpr int64_t bytes_per_row(int64_t k) { return k + k / 32 * 4 * 2 + k / 16 * 2; }
  // In memory of m * bytes_per_row(k) bytes, aligned to 4.
  static QuantizedRows in(std::byte* memory, int64_t m, int64_t k) {
    auto* scales = reinterpret_cast<float*>(memory + m * k);
    float* scaled_sums = scales + m * (k / 32);
    return {reinterpret_cast<int8_t*>(memory),
            scales,
            scaled_sums,
            reinterpret_cast<int16_t*>(scaled_sums + m * (k / 32)),
            k,
            m};
  }
  // The same from row r on (m stays: the distance between groups).
  [[nodiscard]] QuantizedRows from_row(int64_t r) const {
    return {codes + r * k, scales + r, scaled_sums + r, sums + 2 * r, k, m};
  }
  // The same from element `first` of every row on, a multiple of 32.
  [[nodiscard]] QuantizedRows from_column(int64_t first) const {
    const int64_t at = first / 32 * m;
    return {codes + first, scales + at, scaled_sums + at, sums + 2 * at, k, m};
  }
  // Columns [first, first + count) of row r, as a row of their own; multiples of 32.
  [[nodiscard]] QuantizedRows part(int64_t r, int64_t first, int64_t count) const {
    QuantizedRows row = from_row(r).from_column(first);
    row.k = count;
    return row;
  }
};
inline void copy_row(const QuantizedRows& from, const QuantizedRows& to) {
  std::memcpy(to.codes, from.codes, static_cast<size_t>(from.k));
  for (int64_t g = 0; g < from.k / 32; ++g) {
    to.scales[g * to.m] = from.scales[g * from.m];
    to.scaled_sums[g * to.m] = from.scaled_sums[g * from.m];
    std::memcpy(to.sums + 2 * g * to.m, from.sums + 2 * g * from.m, 2 * sizeof(int16_t));
  }
}

// What happens to a finished element: v = sum (+ bias[row]); out = v, or out + v when accumulate.
struct Epilogue {
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;
};

// A matrix in panels (tensor/panel.h) and where its product goes: out[m * out_stride + row] for rows of the given
// panels.
struct MatmulArgs {
  const std::byte* panels;         // panel 0
  int64_t panel_stride;            // bytes
  const std::byte* low = nullptr;  // nested formats: low panel 0; they are low_bytes(k) apart
  int64_t rows;  // of the matrix; the last panel may have fewer than 8 and nothing beyond them is written
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
//   block scales (kF16, kE8M0), per group of 32: acc = fma(float(isum), d * dx, acc), then with minimums
//     acc = fma(m, scaled_sum, acc); isum = sum((code - zero) * xq) or sum(table[code] * xq), d and m the block's
//   super scales, per 256 (the last may be shorter): s = t = 0; per group: s = fma(float(isum), dx, s), isum = sum over blocks of
//     scale_b * sum((code - zero) * xq); with minimums, per block: t = fma(float(min_b), x_b, t), x_b the group's scaled
//     sum (block 32) or float(sum_b(xq)) * dx (block 16); then acc = fma(s, d, acc) and with minimums
//     acc = fma(t, -dmin, acc); of nested formats d is a quarter of the f16
using MatmulFn = void (*)(const PanelFormat& format, const MatmulArgs& args);
struct MatmulEntry {
  PanelFormat format;
  MatmulFn function;
};
// Enough for any kernel to expand a stretch of K of some panels to bytes, with up to six numbers of 32 bits a row and
// group beside them, and to keep what it knows of a block of columns. Kernels that take more panels at once take shorter
// stretches.
inline constexpr int64_t kColumnsMax = 256;
inline constexpr int64_t kStretchMax = 2048;
constexpr int64_t matmul_scratch_bytes(int64_t k) {
  const int64_t stretch = k < kStretchMax ? k : kStretchMax;
  return 4096 + 4 * kPanelRows * (stretch + stretch / kGroup * 6 * 4) + 2 * k + kColumnsMax * 4 * kPanelRows * 4;
}

enum class Activation : uint8_t { kSilu, kGeluTanh };

struct Kernels {
  std::string_view isa;                      // "scalar", "avx2", "neon"
  bool (*supported)();                       // by this machine
  const Kernels* below;                      // whose products run for formats not listed; null: the scalar loop
  std::span<const MatmulEntry> (*matmul)();  // null: none
  // Rows [0, m) of out, which may have more.
  void (*quantize_rows)(const float* x, int64_t x_stride, int m, const QuantizedRows& out);
  // out[i] = x[i] * r * weight[i], r = 1 / sqrt(sum8 of lanes fma(x, x) / n + eps); out may be x
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // out = act(gate) * up; out may be gate
  void (*glu)(Activation activation, const float* gate, const float* up, int64_t n, float* out);
  void (*attend)(const AttendArgs& args);
  void (*merge)(const MergeArgs& args);
  void (*f32_to_f16)(const float* in, int64_t n, uint16_t* out);
  // codes[i] = x[i] * (127 / amax) rounded to even, amax by bit patterns; returns amax / 127. amax below kCodeMin: codes
  // 0, returns 0; not finite: codes 0, returns NaN.
  float (*quantize_i8)(const float* x, int64_t n, int8_t* codes);
  // 32 codes in -8..7 of 32 floats; returns their scale in f16. top: the element of the largest magnitude, the positive
  // one of two. Of the scales d = f16(top * kScaleOfTop[i]) the first with the least error: r[i] = max(-8, min(7, fma(x[i],
  // 1 / d, kRound) - kRound)), e[i] = fma(-d, r[i], x[i]); the error is the sum of e[i] * e[i] as attend() sums p.
  // All below kFourBitMin: codes 0, returns 0. One not below kFourBitMax, or NaN: codes 0, returns NaN.
  uint16_t (*quantize_i4)(const float* x, int8_t* codes);
  // x = H x for each `block` of n floats, H the orthonormal Hadamard matrix of Sylvester's construction: fast
  // Walsh-Hadamard, x[i], x[i + h] = x[i] + x[i + h], x[i] - x[i + h] for h = 1, 2, 4, ... block / 2, then times
  // hadamard_scale(block). block: a power of two of at least 16.
  void (*hadamard)(float* x, int64_t n, int block);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
#elif defined(__aarch64__)
extern const Kernels kNeon;
extern const Kernels kNeonDotprod;
extern const Kernels kNeonI8mm;
#endif

// Slowest first; the first entry always works.
std::span<const Kernels* const> all_kernels();
// The fastest table this machine supports.
const Kernels* best_kernels();
// The table named `isa`; null if this build has none of that name or the machine does not support it.
const Kernels* find_kernels(std::string_view isa);
// The loop of scalar.cc: any format, any machine.
void matmul_scalar(const PanelFormat& format, const MatmulArgs& args);
// The function for a format: the table's own, or that of the tables below it, or the scalar loop.
MatmulFn find_matmul(const Kernels& kernels, const PanelFormat& format);

}  // namespace hearth::cpu
