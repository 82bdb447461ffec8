// The table for ARMv8 machines with dot products of bytes: other products of matrices, the rest as in neon.cc.
#if defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

#include <array>
#include <cstring>

#include "backend/cpu/formats.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/neon.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "backend/cpu/neon_matmul.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace hearth::cpu {
namespace {

constexpr auto kEntries = neon::entries<neon::Multiply::kDot>();
std::span<const MatmulEntry> matmul_entries() { return kEntries; }

bool supported() {
  constexpr unsigned long kHasDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kHasDotProducts) != 0;
}

}  // namespace

constinit const Kernels kNeonDotprod = neon::table("neon-dotprod", supported, matmul_entries);

}  // namespace hearth::cpu
#endif
