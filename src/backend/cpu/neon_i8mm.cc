// The table for ARMv8 machines that multiply small matrices of bytes (i8mm): other products of matrices, the rest as in
// neon.cc.
#if defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

#include <array>
#include <cstring>

#include "backend/cpu/formats.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/neon.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif
#include "backend/cpu/neon_matmul.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace hearth::cpu {
namespace {

constexpr auto kEntries = neon::entries<neon::Multiply::kMatrix>();
std::span<const MatmulEntry> matmul_entries() { return kEntries; }

bool supported() {
  constexpr unsigned long kHasDotProducts = 1ul << 20, kHasI8mm = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
  return (getauxval(AT_HWCAP) & kHasDotProducts) != 0 && (getauxval(AT_HWCAP2) & kHasI8mm) != 0;
}

}  // namespace

constinit const Kernels kNeonI8mm = neon::table("neon-i8mm", supported, matmul_entries);

}  // namespace hearth::cpu
#endif
