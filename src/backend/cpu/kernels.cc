#include "backend/cpu/kernels.h"

#include <algorithm>
#include <array>

namespace hearth::cpu {
namespace {

constexpr auto kAll = std::to_array<const Kernels*>({
    &kScalar,
#if defined(__x86_64__)
    &kAvx2,
    &kAvx512Vnni,
#elif defined(__aarch64__)
    &kNeon,
    &kNeonDotprod,
    &kNeonI8mm,
#endif
});

}  // namespace

std::span<const Kernels* const> all_kernels() { return kAll; }

const Kernels* best_kernels() {
  const Kernels* best = nullptr;  // slowest first
  for (const Kernels* each : kAll)
    if (each->supported()) best = each;
  return best;
}

const Kernels* find_kernels(std::string_view isa) {
  const auto found =
      std::ranges::find_if(kAll, [&](const Kernels* each) { return each->isa == isa && each->supported(); });
  return found == kAll.end() ? nullptr : *found;
}

MatmulFn find_matmul(const Kernels& kernels, const PanelFormat& format) {
  for (const Kernels* table = &kernels; table && table->matmul; table = table->below) {
    const std::span<const MatmulEntry> entries = table->matmul();
    const auto found = std::ranges::find(entries, format, &MatmulEntry::format);
    if (found != entries.end()) return found->function;
  }
  return matmul_scalar;
}

}  // namespace hearth::cpu
