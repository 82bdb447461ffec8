// Granite 3: Llama with four multipliers, dense or as a mixture of experts.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  config.ropes.front().style = keys.hugging_face() ? RopeStyle::kHalves : RopeStyle::kInterleaved;
  auto multiplier = [&](std::string_view gguf, std::string_view hf) -> Result<float> {
    const double value = TRY(keys.float_or(gguf, hf, 1.0));
    if (!(value > 0))
      return fail(Code::kMalformed, "{} is {}; it must be above 0", keys.hugging_face() ? hf : gguf, value);
    return static_cast<float>(value);
  };
  config.embedding_scale = TRY(multiplier("embedding_scale", "embedding_multiplier"));
  config.residual_scale = TRY(multiplier("residual_scale", "residual_multiplier"));
  config.logit_scale = 1.0f / TRY(multiplier("logit_scale", "logits_scaling"));
  // Without a key, GGUF means the usual 1 / sqrt(head_dim) and config.json means 1.
  if (keys.hugging_face() || TRY(keys.find_float("attention.scale", "")))
    config.attention_scale = TRY(multiplier("attention.scale", "attention_multiplier"));
  return config;
}

// All layers are mixtures; the chosen experts' weights come from a softmax over their logits alone.
Result<DecoderConfig> configure_moe(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure(keys));
  const int n_experts = TRY(keys.require_int("expert_count", "num_local_experts"));
  config.n_experts_used = TRY(keys.require_int("expert_used_count", "num_experts_per_tok"));
  config.softmax_before_top_k = false;
  config.d_expert = config.layers.front().d_ffn;
  for (LayerConfig& layer : config.layers) layer.n_experts = n_experts;
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"GraniteForCausalLM"};
constexpr std::array<std::string_view, 1> kMoeClasses{"GraniteMoeForCausalLM"};
constexpr std::array kMoeNames{
    TensorName{"ffn_gate_inp.weight", "block_sparse_moe.router.layer.weight"},
    TensorName{"ffn_gate_up_exps.weight", "block_sparse_moe.input_linear.weight"},
    TensorName{"ffn_down_exps.weight", "block_sparse_moe.output_linear.weight"},
};

}  // namespace

const Family kGranite{.name = "granite", .hf_classes = kClasses, .configure = configure, .hf_names = {}};
const Family kGraniteMoe{
    .name = "granitemoe", .hf_classes = kMoeClasses, .configure = configure_moe, .hf_names = kMoeNames};

}  // namespace hearth
