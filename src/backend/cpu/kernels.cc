#include "backend/cpu/kernels.h"

#include <algorithm>
#include <array>

namespace hearth::cpu {
namespace {

constexpr auto kAll = std::to_array<const Kernels*>({
    &kScalar,
#if defined(__x86_64__)
    &kAvx2,
#elif defined(__aarch64__)
    &kNeon,
    &kNeonDotprod,
#endif
});

}  // namespace

std::span<const Kernels* const> all_kernels() { return kAll; }

const Kernels* best_kernels() {
  return *std::find_if(kAll.rbegin(), kAll.rend(), [](const Kernels* each) { return each->supported(); });
}

const Kernels* find_kernels(std::string_view isa) {
  const auto found =
      std::ranges::find_if(kAll, [&](const Kernels* each) { return each->isa == isa && each->supported(); });
  return found == kAll.end() ? nullptr : *found;
}

MatmulFn find_matmul(const Kernels& kernels, const PanelFormat& format) {
  if (!kernels.matmul) return matmul_scalar;
  const std::span<const MatmulEntry> entries = kernels.matmul();
  const auto found = std::ranges::find(entries, format, &MatmulEntry::format);
  return found == entries.end() ? matmul_scalar : found->function;
}

}  // namespace hearth::cpu
