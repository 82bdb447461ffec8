// What Gemma 2 and 3 share: scaled embeddings, norms stored minus one, norms of what is added, GELU, soft caps.
#pragma once

#include <array>

#include "model/arch/all.h"

namespace hearth {

// `layers_of_27b`: the number of layers by which the largest model is known, whose scores are scaled in its own way.
Result<DecoderConfig> configure_gemma(const ModelKeys& keys, int layers_of_27b);

inline constexpr std::array kGemmaNames{
    TensorName{"post_attention_norm.weight", "post_attention_layernorm.weight"},
    TensorName{"ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    TensorName{"post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
};

}  // namespace hearth
