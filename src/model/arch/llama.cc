// Llama 1 to 3 and what is built like it (SmolLM2, TinyLlama, ...), and Mixtral, which GGUF files under the same name.
// GGUF permutes the rows of q and k so that rotated pairs stand side by side; Hugging Face's files keep them in halves.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  config.ropes.front().style = keys.hugging_face() ? RopeStyle::kHalves : RopeStyle::kInterleaved;
  const int n_experts = TRY(keys.int_or("expert_count", "num_local_experts", 0));
  if (n_experts > 0) {
    config.n_experts_used = TRY(keys.require_int("expert_used_count", "num_experts_per_tok"));
    config.d_expert = config.layers.front().d_ffn;
    for (LayerConfig& layer : config.layers) layer.n_experts = n_experts;
  }
  return config;
}

constexpr std::array<std::string_view, 2> kClasses{"LlamaForCausalLM", "MixtralForCausalLM"};
constexpr std::array kMixtralNames{
    TensorName{"ffn_gate_inp.weight", "block_sparse_moe.gate.weight"},
    TensorName{"ffn_gate.E.weight", "block_sparse_moe.experts.E.w1.weight"},
    TensorName{"ffn_up.E.weight", "block_sparse_moe.experts.E.w3.weight"},
    TensorName{"ffn_down.E.weight", "block_sparse_moe.experts.E.w2.weight"},
};

}  // namespace

const Family kLlama{.name = "llama", .hf_classes = kClasses, .configure = configure, .hf_names = kMixtralNames};

}  // namespace hearth
