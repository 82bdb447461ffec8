// Qwen2 and Qwen2.5: biases on q, k and v (found by their tensors), otherwise plain.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {
constexpr std::array<std::string_view, 1> kClasses{"Qwen2ForCausalLM"};
}  // namespace

const Family kQwen2{.name = "qwen2", .hf_classes = kClasses, .configure = configure_plain, .hf_names = {}};

}  // namespace hearth
