// What the ARMv8 files share.
#pragma once

#include "backend/cpu/kernels.h"

namespace hearth::cpu::neon {

void attend(const AttendArgs& args);
void merge(const MergeArgs& args);
void quantize_rows(const float* x, int64_t x_stride, int m, const QuantizedRows& out);
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out);
void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out);
void f32_to_f16(const float* in, int64_t n, uint16_t* out);
float quantize_i8(const float* x, int64_t n, int8_t* codes);
uint16_t quantize_i4(const float* x, int8_t* codes);
void hadamard(float* x, int64_t n, int block);

// The table of one kind of ARMv8 machine: they differ in how they multiply matrices only.
constexpr Kernels table(std::string_view isa, bool (*supported)(), std::span<const MatmulEntry> (*matmul)()) {
  return {
      .isa = isa,
      .supported = supported,
      .below = nullptr,
      .matmul = matmul,
      .quantize_rows = quantize_rows,
      .rms_norm = rms_norm,
      .glu = glu,
      .attend = attend,
      .merge = merge,
      .f32_to_f16 = f32_to_f16,
      .quantize_i8 = quantize_i8,
      .quantize_i4 = quantize_i4,
      .hadamard = hadamard,
  };
}

}  // namespace hearth::cpu::neon
