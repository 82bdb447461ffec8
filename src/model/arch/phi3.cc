// Phi-3, Phi-3.5 and Phi-4: q, k and v in one matrix, gate and up in another; longrope, a part of each head turned.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  config.fused_qkv = config.fused_gate_up = true;
  const int window = TRY(keys.int_or("attention.sliding_window", "sliding_window", 0));
  for (LayerConfig& layer : config.layers) layer.window = window;
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"Phi3ForCausalLM"};
constexpr std::array kNames{TensorName{"ffn_up.weight", "mlp.gate_up_proj.weight"}};

}  // namespace

const Family kPhi3{.name = "phi3", .hf_classes = kClasses, .configure = configure, .hf_names = kNames};

}  // namespace hearth
