// Qwen3's mixtures of experts: q and k normed per head; the experts' weights are a softmax over all, cut to the best.
#include <algorithm>
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_qwen(keys));
  const int n_experts = TRY(keys.require_int("expert_count", "num_experts"));
  config.n_experts_used = TRY(keys.require_int("expert_used_count", "num_experts_per_tok"));
  config.d_expert = TRY(keys.require_int("expert_feed_forward_length", "moe_intermediate_size"));
  // GGUF has no key for it; llama.cpp normalises always, and so do the published models.
  config.normalise_expert_weights = TRY(keys.bool_or("", "norm_topk_prob", !keys.hugging_face()));
  const int step = TRY(keys.int_or("", "decoder_sparse_step", 1));
  if (step < 1) return fail(Code::kMalformed, "decoder_sparse_step is {}; it must be at least 1", step);
  const auto dense = TRY(keys.floats("", "mlp_only_layers"));
  for (int i = 0; i < config.n_layers(); ++i) {
    const bool is_dense = (i + 1) % step != 0 || std::ranges::find(dense, static_cast<float>(i)) != dense.end();
    config.layers[static_cast<size_t>(i)].n_experts = is_dense ? 0 : n_experts;
  }
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"Qwen3MoeForCausalLM"};

}  // namespace

const Family kQwen3Moe{.name = "qwen3moe", .hf_classes = kClasses, .configure = configure, .hf_names = {}};

}  // namespace hearth
