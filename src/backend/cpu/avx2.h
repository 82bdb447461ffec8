// What the AVX2 files share. Everything between AVX2_REGION's two ends is compiled for AVX2, FMA and F16C, and only
// that: headers come before it, so that no inline function of theirs is compiled for instructions the machine may not
// have.
#pragma once

#include <immintrin.h>

#include "backend/cpu/kernels.h"

namespace hearth::cpu::avx2 {

std::span<const MatmulEntry> matmul_entries();
void attend(const AttendArgs& args);
void merge(const MergeArgs& args);
void quantize_rows(const float* x, int64_t x_stride, int m, const QuantizedRows& out);
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out);
void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out);
void f32_to_f16(const float* in, int64_t n, uint16_t* out);
float quantize_i8(const float* x, int64_t n, int8_t* codes);
uint16_t quantize_i4(const float* x, int8_t* codes);
void hadamard(float* x, int64_t n, int block);

}  // namespace hearth::cpu::avx2
