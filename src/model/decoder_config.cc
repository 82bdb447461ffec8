#include "model/decoder_config.h"

#include <cmath>

#include "base/limits.h"

namespace hearth {
namespace {

Result<void> in_range(std::string_view what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return fail(value > high ? Code::kLimit : Code::kMalformed, "{} is {}; it must be {} to {}", what, value, low, high);
}

Result<void> check_layer(const DecoderConfig& config, const LayerConfig& layer) {
  if (layer.mixer == Mixer::kAttention) {
    TRY(in_range("heads", layer.n_heads, 1, limits::kHeads));
    TRY(in_range("kv heads", layer.n_kv_heads, 1, layer.n_heads));
    TRY(in_range("head dimension", layer.head_dim, 1, limits::kHeadDim));
    TRY(in_range("heads * head dimension", int64_t{layer.n_heads} * layer.head_dim, 1, limits::kWidth));
    TRY(in_range("sliding window", layer.window, 0, limits::kContext));
    if (layer.n_heads % layer.n_kv_heads != 0)
      return fail(Code::kMalformed, "{} heads cannot share {} kv heads evenly", layer.n_heads, layer.n_kv_heads);
    if (layer.rope >= static_cast<int>(config.ropes.size()))
      return fail(Code::kMalformed, "rope {} of {}", layer.rope, config.ropes.size());
    if (layer.rope >= 0)
      TRY(in_range("rope dimensions", config.ropes[static_cast<size_t>(layer.rope)].dims, 2, layer.head_dim));
  }
  if (layer.n_experts == 0) return in_range("feed-forward width", layer.d_ffn, 1, limits::kWidth);
  TRY(in_range("experts", layer.n_experts, 1, limits::kExperts));
  TRY(in_range("experts used", config.n_experts_used, 1, layer.n_experts));
  return in_range("expert width", config.d_expert, 1, limits::kWidth);
}

Result<void> check_rope(const RopeConfig& rope) {
  if (rope.dims % 2 != 0) return fail(Code::kMalformed, "rope dimensions are {}; they come in pairs", rope.dims);
  const auto half = static_cast<size_t>(rope.dims / 2);
  const bool lists_fit = (rope.scaling != RopeScaling::kFactors || rope.factors.size() == half) &&
                         (rope.long_factors.empty() || rope.long_factors.size() == half);
  if (!lists_fit)
    return fail(Code::kMalformed, "rope has {} and {} factors, want {}", rope.factors.size(), rope.long_factors.size(),
                half);
  for (const std::vector<float>* list : {&rope.factors, &rope.long_factors})
    for (const float factor : *list)
      if (!(factor > 0.0f) || !std::isfinite(factor))
        return fail(Code::kMalformed, "rope factor {} is not above 0", factor);
  const bool is_ntk = rope.scaling == RopeScaling::kNtk;
  if (is_ntk && rope.dims < 4)
    return fail(Code::kMalformed, "rope dimensions are {}; dynamic NTK needs at least 4", rope.dims);
  const bool needs_original = is_ntk || rope.scaling == RopeScaling::kYarn || rope.scaling == RopeScaling::kLlama3;
  if (needs_original) TRY(in_range("rope's original context", rope.original_context, 1, limits::kContext));
  if (!(rope.base > 1.0 && rope.base < 1e12)) return fail(Code::kMalformed, "rope base {} is not above 1", rope.base);
  if (!(rope.factor > 0.0 && rope.factor < 1e6))
    return fail(Code::kMalformed, "rope scaling factor {} is not above 0", rope.factor);
  if (rope.scaling == RopeScaling::kLlama3 &&
      !(rope.high_freq_factor > rope.low_freq_factor && rope.low_freq_factor > 0))
    return fail(Code::kMalformed, "rope low and high frequency factors are {} and {}", rope.low_freq_factor,
                rope.high_freq_factor);
  return {};
}

}  // namespace

Result<void> check(const DecoderConfig& config) {
  TRY(in_range("vocabulary", config.n_vocab, 1, limits::kVocabulary));
  TRY(in_range("width", config.d_model, 1, limits::kWidth));
  TRY(in_range("layers", config.n_layers(), 1, limits::kLayers));
  TRY(in_range("context", config.context_max, 1, limits::kContext));
  if (!(config.norm_eps > 0.0f && config.norm_eps < 1.0f))
    return fail(Code::kMalformed, "norm epsilon is {}", config.norm_eps);
  for (const float value : {config.embedding_scale, config.residual_scale, config.attention_scale,
                            config.attention_soft_cap, config.logit_soft_cap, config.logit_scale, config.expert_scale})
    if (!(value >= 0.0f && std::isfinite(value)))
      return fail(Code::kMalformed, "one of the model's scales and caps is {}", value);
  bool convolves = false;
  for (const RopeConfig& rope : config.ropes) TRY(check_rope(rope));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    convolves |= config.layers[i].mixer == Mixer::kShortConv;
    if (auto ok = check_layer(config, config.layers[i]); !ok) return within(fmt::format("layer {}", i), ok.error());
  }
  if (convolves) TRY(in_range("convolution taps", config.conv_taps, 1, 64));
  return {};
}

}  // namespace hearth
