// What plain decoders share, and the settings of rope.
#include <cmath>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<RopeScaling> parse_scaling(std::string_view text) {
  if (text.empty() || text == "none" || text == "default") return RopeScaling::kNone;
  if (text == "linear") return RopeScaling::kLinear;
  if (text == "ntk" || text == "dynamic") return RopeScaling::kNtk;
  if (text == "yarn") return RopeScaling::kYarn;
  if (text == "llama3") return RopeScaling::kLlama3;
  if (text == "longrope" || text == "su") return RopeScaling::kFactors;
  return fail(Code::kUnsupported, "rope scaling '{}' is not known; known are linear, ntk, yarn, llama3 and longrope", text);
}

// YaRN's attention factor, 0.1 ln(factor) + 1 unless the file gives one.
Result<void> yarn(const ModelKeys& keys, RopeConfig& rope) {
  rope.beta_fast = TRY(keys.float_or("rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast", 32.0));
  rope.beta_slow = TRY(keys.float_or("rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow", 1.0));
  const double usual = rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
  const double given = TRY(keys.float_or("rope.scaling.attn_factor", "rope_scaling.attention_factor", 0.0));
  // GGUF's attn_factor multiplies the usual value, Hugging Face's replaces it.
  rope.magnitude = given == 0.0 ? usual : keys.hugging_face() ? given : given * usual;
  return {};
}

// longrope's: sqrt(1 + ln(context / original) / ln(original)) unless the file gives one.
Result<void> longrope(const ModelKeys& keys, RopeConfig& rope) {
  rope.factors = TRY(keys.floats("", "rope_scaling.short_factor"));
  rope.long_factors = TRY(keys.floats("", "rope_scaling.long_factor"));
  const int context = TRY(keys.require_int("context_length", "max_position_embeddings"));
  rope.original_context = TRY(keys.int_or("rope.scaling.original_context_length", "original_max_position_embeddings", rope.original_context));
  if (rope.original_context <= 1) return fail(Code::kMalformed, "longrope needs the original context; the file says {}", rope.original_context);
  const double ratio = static_cast<double>(context) / rope.original_context;
  const double usual = ratio <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(ratio) / std::log(static_cast<double>(rope.original_context)));
  const double given = TRY(keys.float_or("rope.scaling.attn_factor", "rope_scaling.attention_factor", 0.0));
  rope.magnitude = given == 0.0 ? usual : given;
  return {};
}

}  // namespace

Result<RopeConfig> configure_rope(const ModelKeys& keys, int head_dim, std::string_view base_gguf, std::string_view base_hf) {
  RopeConfig rope;
  const double share = TRY(keys.float_or("", "partial_rotary_factor", 1.0));
  rope.dims = TRY(keys.int_or("rope.dimension_count", "", static_cast<int>(head_dim * share)));
  rope.base = TRY(keys.float_or(base_gguf, base_hf, 10000.0));
  std::string kind = TRY(keys.string_or("rope.scaling.type", "rope_scaling.rope_type", ""));
  if (kind.empty()) kind = TRY(keys.string_or("", "rope_scaling.type", ""));
  rope.scaling = TRY(parse_scaling(kind));
  rope.factor = TRY(keys.float_or("rope.scaling.factor", "rope_scaling.factor", 1.0));
  rope.original_context = TRY(keys.int_or("rope.scaling.original_context_length", "rope_scaling.original_max_position_embeddings", 0));
  rope.low_freq_factor = TRY(keys.float_or("", "rope_scaling.low_freq_factor", 1.0));
  rope.high_freq_factor = TRY(keys.float_or("", "rope_scaling.high_freq_factor", 4.0));
  if (rope.scaling == RopeScaling::kYarn) TRY(yarn(keys, rope));
  if (rope.scaling == RopeScaling::kFactors) TRY(longrope(keys, rope));
  return rope;
}

Result<DecoderConfig> configure_plain(const ModelKeys& keys) {
  DecoderConfig config;
  config.d_model = TRY(keys.require_int("embedding_length", "hidden_size"));
  config.context_max = TRY(keys.require_int("context_length", "max_position_embeddings"));
  config.norm_eps = static_cast<float>(TRY(keys.float_or("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-5)));
  const int n_layers = TRY(keys.require_int("block_count", "num_hidden_layers"));
  if (n_layers < 1 || n_layers > 4096) return fail(Code::kMalformed, "the model says it has {} layers", n_layers);
  if (const TensorRef* table = keys.checkpoint().find_tensor(keys.hugging_face() ? "model.embed_tokens.weight" : "token_embd.weight"))
    config.n_vocab = table->shape[1] <= INT32_MAX ? static_cast<int>(table->shape[1]) : 0;
  else return fail(Code::kMalformed, "the model has no token embedding");
  const auto heads = TRY(keys.per_layer("attention.head_count", "num_attention_heads", n_layers));
  const auto kv_heads = TRY(keys.per_layer("attention.head_count_kv", "num_key_value_heads", n_layers, heads.front()));
  if (heads.front() < 1) return fail(Code::kMalformed, "the model says it has {} attention heads", heads.front());
  const int head_dim = TRY(keys.int_or("attention.key_length", "head_dim", config.d_model / heads.front()));
  const auto ffn = TRY(keys.per_layer("feed_forward_length", "intermediate_size", n_layers, 0));
  config.ropes.push_back(TRY(configure_rope(keys, head_dim)));
  for (size_t i = 0; i < static_cast<size_t>(n_layers); ++i)
    config.layers.push_back({.n_heads = heads[i], .n_kv_heads = kv_heads[i], .head_dim = head_dim, .d_ffn = ffn[i]});
  return config;
}

}  // namespace hearth
