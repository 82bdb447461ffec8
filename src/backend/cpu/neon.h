// What the ARMv8 files share.
#pragma once

#include "backend/cpu/kernels.h"

namespace hearth::cpu::neon {

void attend(const AttendArgs& args);
void quantize_rows(const float* x, int64_t x_stride, int m, const QuantizedRows& out);
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out);
void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out);
void f16_to_f32(const uint16_t* in, int64_t n, float* out);
void f32_to_f16(const float* in, int64_t n, uint16_t* out);
void i8_keys_to_f32(const int8_t* in, const float* scale, int64_t n, float* out);
void i8_values_to_f32(const int8_t* in, const float* scale, int64_t row, int64_t n, float* out);

}  // namespace hearth::cpu::neon
