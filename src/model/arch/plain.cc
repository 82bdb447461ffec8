// What plain decoders share, and the settings of rope.
#include <cmath>

#include "base/exact_math.h"
#include "base/limits.h"
#include "model/arch/all.h"

namespace hearth {
namespace {

Result<RopeScaling> parse_scaling(std::string_view text) {
  if (text.empty() || text == "none" || text == "default") return RopeScaling::kNone;
  if (text == "linear") return RopeScaling::kLinear;
  if (text == "dynamic") return RopeScaling::kNtk;
  if (text == "yarn") return RopeScaling::kYarn;
  if (text == "llama3") return RopeScaling::kLlama3;
  if (text == "longrope" || text == "su") return RopeScaling::kFactors;
  return fail(Code::kUnsupported,
              "rope scaling '{}' is not known; known are linear, dynamic, yarn, llama3 and longrope", text);
}

// Where config.json keeps a setting of rope: in rope_scaling, or since transformers 5 in rope_parameters, which Gemma divides
// by kind of layer.
std::string rope_field(const ModelKeys& keys, std::string_view name) {
  for (const std::string_view object : {"rope_scaling", "rope_parameters.full_attention", "rope_parameters"})
    if (keys.field(object)) return fmt::format("{}.{}", object, name);
  return fmt::format("rope_scaling.{}", name);
}

// Base and the part of a head that turns stand beside rope_scaling, but inside rope_parameters.
std::string outer_field(const ModelKeys& keys, std::string_view name) {
  return keys.field(name) ? std::string(name) : rope_field(keys, name);
}

// YaRN's attention factor, 0.1 ln(factor) + 1 unless the file gives one.
Result<void> yarn(const ModelKeys& keys, RopeConfig& rope) {
  rope.beta_fast = TRY(keys.float_or("rope.scaling.yarn_beta_fast", rope_field(keys, "beta_fast"), 32.0));
  rope.beta_slow = TRY(keys.float_or("rope.scaling.yarn_beta_slow", rope_field(keys, "beta_slow"), 1.0));
  const double usual = rope.factor <= 1.0 ? 1.0 : 0.1 * exact_log(rope.factor) + 1.0;
  const double given = TRY(keys.float_or("rope.scaling.attn_factor", rope_field(keys, "attention_factor"), 0.0));
  // GGUF's factor multiplies the usual value, Hugging Face's replaces it.
  rope.magnitude = given == 0.0 ? usual : keys.hugging_face() ? given : given * usual;
  return {};
}

// longrope's: sqrt(1 + ln(context / original) / ln(original)) unless the file gives one.
Result<void> longrope(const ModelKeys& keys, RopeConfig& rope) {
  rope.factors = TRY(keys.floats("", rope_field(keys, "short_factor")));
  rope.long_factors = TRY(keys.floats("", rope_field(keys, "long_factor")));
  const int context = TRY(keys.require_int("context_length", "max_position_embeddings"));
  rope.original_context = TRY(keys.int_or("", "original_max_position_embeddings", rope.original_context));
  if (rope.original_context <= 1)
    return fail(Code::kMalformed, "longrope needs the original context; the file says {}", rope.original_context);
  const double ratio = static_cast<double>(context) / rope.original_context;
  const double usual =
      ratio <= 1.0 ? 1.0 : std::sqrt(1.0 + exact_log(ratio) / exact_log(static_cast<double>(rope.original_context)));
  const double given = TRY(keys.float_or("rope.scaling.attn_factor", rope_field(keys, "attention_factor"), 0.0));
  rope.magnitude = given == 0.0 ? usual : given;
  return {};
}

// What a GGUF without rope.scaling.type means: Phi-3's have longrope's factors as tensors.
std::string_view untyped_scaling(const ModelKeys& keys, double factor) {
  if (keys.hugging_face()) return "";
  if (keys.checkpoint().find_tensor("rope_factors_long.weight")) return "longrope";
  return factor != 1.0 ? "linear" : "";
}

}  // namespace

Result<RopeConfig> configure_rope(const ModelKeys& keys, int head_dim) {
  RopeConfig rope;
  const double share = TRY(keys.float_or("", outer_field(keys, "partial_rotary_factor"), 1.0));
  if (!(share > 0.0 && share <= 1.0))
    return fail(Code::kMalformed, "partial_rotary_factor is {}; it must be above 0 and at most 1", share);
  rope.dims = TRY(keys.int_or("rope.dimension_count", "", static_cast<int>(head_dim * share)));
  rope.base = TRY(keys.float_or("rope.freq_base", outer_field(keys, "rope_theta"), 10000.0));
  // GGUF's older name of the factor; without a type a factor means linear.
  const double linear = TRY(keys.float_or("rope.scale_linear", "", 1.0));
  rope.factor = TRY(keys.float_or("rope.scaling.factor", rope_field(keys, "factor"), linear == 0.0 ? 1.0 : linear));
  std::string kind = TRY(keys.string_or("rope.scaling.type", rope_field(keys, "rope_type"), ""));
  if (kind.empty()) kind = TRY(keys.string_or("", rope_field(keys, "type"), untyped_scaling(keys, rope.factor)));
  rope.scaling = TRY(parse_scaling(kind));
  rope.original_context =
      TRY(keys.int_or("rope.scaling.original_context_length", rope_field(keys, "original_max_position_embeddings"), 0));
  rope.low_freq_factor = TRY(keys.float_or("", rope_field(keys, "low_freq_factor"), 1.0));
  rope.high_freq_factor = TRY(keys.float_or("", rope_field(keys, "high_freq_factor"), 4.0));
  if (rope.scaling == RopeScaling::kYarn) TRY(yarn(keys, rope));
  if (rope.scaling == RopeScaling::kFactors) TRY(longrope(keys, rope));
  if (rope.scaling == RopeScaling::kNtk && rope.original_context == 0)
    rope.original_context = TRY(keys.require_int("context_length", "max_position_embeddings"));
  return rope;
}

Result<void> set_windows(const ModelKeys& keys, int usual_window, int usual_pattern, DecoderConfig& config) {
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  const int window = TRY(keys.int_or("attention.sliding_window", "sliding_window", usual_window));
  std::vector<bool> slides = TRY(keys.layer_flags(kPattern, config.n_layers()));
  for (const std::string& type : TRY(keys.strings("layer_types"))) slides.push_back(type == "sliding_attention");
  if (slides.empty()) {
    const int pattern = TRY(keys.int_or(kPattern, "sliding_window_pattern", usual_pattern));
    if (pattern < 1) return fail(Code::kMalformed, "the sliding window pattern is {}; it must be at least 1", pattern);
    for (int i = 0; i < config.n_layers(); ++i) slides.push_back((i + 1) % pattern != 0);
  }
  if (slides.size() != config.layers.size())
    return fail(Code::kMalformed, "config.json: 'layer_types' has {} values for {} layers", slides.size(),
                config.n_layers());
  for (size_t i = 0; i < slides.size(); ++i) config.layers[i].window = slides[i] ? window : 0;
  return {};
}

namespace {

// config.json's name of the activation; GGUF has none, its families know theirs.
Result<GluKind> activation(const ModelKeys& keys) {
  const std::string_view field = keys.field("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string name = TRY(keys.string_or("", field, "silu"));
  if (name == "silu" || name == "swish") return GluKind::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return GluKind::kGeluTanh;
  return fail(Code::kUnsupported, "config.json: '{}' is '{}'; known are silu and gelu_pytorch_tanh", field, name);
}

// Files with YaRN or dynamic NTK may give the context before stretching.
int stretched_context(const RopeConfig& rope, int context) {
  if (rope.scaling != RopeScaling::kYarn && rope.scaling != RopeScaling::kNtk) return context;
  const double stretched = rope.original_context * rope.factor;
  return stretched > context && stretched <= limits::kContext ? static_cast<int>(stretched) : context;
}

}  // namespace

Result<DecoderConfig> configure_plain(const ModelKeys& keys) {
  DecoderConfig config;
  config.d_model = TRY(keys.require_int("embedding_length", "hidden_size"));
  config.context_max = TRY(keys.require_int("context_length", "max_position_embeddings"));
  config.norm_eps = static_cast<float>(TRY(keys.float_or("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-5)));
  config.glu = TRY(activation(keys));
  const int n_layers = TRY(keys.require_int("block_count", "num_hidden_layers"));
  if (n_layers < 1 || n_layers > 4096) return fail(Code::kMalformed, "the model says it has {} layers", n_layers);
  if (const TensorRef* table = keys.checkpoint().find_tensor(
          keys.checkpoint().has_gguf_names() ? "token_embd.weight" : "model.embed_tokens.weight"))
    config.n_vocab = table->shape[1] <= INT32_MAX ? static_cast<int>(table->shape[1]) : 0;
  else
    return fail(Code::kMalformed, "the model has no token embedding");
  const auto heads = TRY(keys.per_layer("attention.head_count", "num_attention_heads", n_layers));
  const auto kv_heads = TRY(keys.per_layer("attention.head_count_kv", "num_key_value_heads", n_layers, heads.front()));
  if (heads.front() < 1) return fail(Code::kMalformed, "the model says it has {} attention heads", heads.front());
  const int head_dim = TRY(keys.int_or("attention.key_length", "head_dim", config.d_model / heads.front()));
  const auto ffn = TRY(keys.per_layer("feed_forward_length", "intermediate_size", n_layers, 0));
  config.ropes.push_back(TRY(configure_rope(keys, head_dim)));
  config.context_max = stretched_context(config.ropes.front(), config.context_max);
  for (size_t i = 0; i < static_cast<size_t>(n_layers); ++i)
    config.layers.push_back({.n_heads = heads[i], .n_kv_heads = kv_heads[i], .head_dim = head_dim, .d_ffn = ffn[i]});
  return config;
}

}  // namespace hearth
