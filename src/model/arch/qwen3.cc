// Qwen3: q and k normed per head (found by their tensors), a head dimension of its own, no biases.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {
constexpr std::array<std::string_view, 1> kClasses{"Qwen3ForCausalLM"};
}  // namespace

const Family kQwen3{.name = "qwen3", .hf_classes = kClasses, .configure = configure_qwen, .hf_names = {}};

}  // namespace hearth
