// The table for AVX-512 with VNNI: products of its own, all else as AVX2 has it.
#if defined(__x86_64__)
#include "backend/cpu/avx512vnni.h"

#include "backend/cpu/avx2.h"

namespace hearth::cpu {
namespace {

bool supported() {
  return kAvx2.supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace

constinit const Kernels kAvx512Vnni = {
    .isa = "avx512vnni",
    .supported = supported,
    .below = &kAvx2,
    .matmul = avx512vnni::matmul_entries,
    .quantize_rows = avx2::quantize_rows,
    .rms_norm = avx2::rms_norm,
    .glu = avx2::glu,
    .attend = avx512vnni::attend,
    .merge = avx2::merge,
    .f32_to_f16 = avx2::f32_to_f16,
    .quantize_i8 = avx2::quantize_i8,
    .quantize_i4 = avx2::quantize_i4,
    .hadamard = avx2::hadamard,
};

}  // namespace hearth::cpu
#endif
