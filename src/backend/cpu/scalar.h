// What the reference's files share.
#pragma once

#include "backend/cpu/kernels.h"

namespace hearth::cpu::scalar {

void attend(const AttendArgs& args);
void merge(const MergeArgs& args);
float quantize_i8(const float* x, int64_t n, int8_t* codes);
uint16_t quantize_i4(const float* x, int8_t* codes);
void hadamard(float* x, int64_t n, int block);

}  // namespace hearth::cpu::scalar
