// What the files for AVX-512 with VNNI share; loops they do not have are AVX2's.
#pragma once

#include "backend/cpu/kernels.h"

namespace hearth::cpu::avx512vnni {

std::span<const MatmulEntry> matmul_entries();
void attend(const AttendArgs& args);

}  // namespace hearth::cpu::avx512vnni
