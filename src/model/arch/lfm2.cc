// LFM2: most layers mix positions with a short gated convolution, some with attention (q and k normed per head).
#include <algorithm>
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

// config.json gives a width that is cut to two thirds, multiplied and rounded up; GGUF has the result.
Result<int> feed_forward_width(const ModelKeys& keys) {
  std::optional<int> width = TRY(keys.find_int("feed_forward_length", "block_ff_dim"));
  if (!width) width = TRY(keys.require_int("feed_forward_length", "intermediate_size"));
  if (!keys.hugging_face() || !TRY(keys.bool_or("", "block_auto_adjust_ff_dim", true))) return *width;
  constexpr int kUsualMultiple = 256;
  const int multiple = TRY(keys.int_or("", "block_multiple_of", kUsualMultiple));
  const double multiplier = TRY(keys.float_or("", "block_ffn_dim_multiplier", 1.0));
  const double scaled = static_cast<double>(static_cast<int>(2.0 * *width / 3.0)) * multiplier;
  if (*width < 1 || multiple < 1 || !(scaled >= 1 && scaled < INT32_MAX / 2))
    return fail(Code::kMalformed, "feed-forward width {} with multiplier {} and multiple {}", *width, multiplier,
                multiple);
  const int64_t blocks = (static_cast<int64_t>(scaled) + multiple - 1) / multiple;
  return static_cast<int>(std::min<int64_t>(blocks * multiple, INT32_MAX));
}

// Which layers convolve: GGUF gives them no kv heads, config.json has layer_types or the indices of the others.
Result<std::vector<bool>> convolving_layers(const ModelKeys& keys, const DecoderConfig& config) {
  std::vector<bool> convolves(config.layers.size());
  if (!keys.hugging_face()) {
    for (size_t i = 0; i < convolves.size(); ++i) convolves[i] = config.layers[i].n_kv_heads == 0;
    return convolves;
  }
  const auto types = TRY(keys.strings("layer_types"));
  const auto attends = TRY(keys.floats("", "full_attn_idxs"));
  if (types.empty() && attends.empty())
    return fail(Code::kMalformed, "config.json has no 'layer_types' and no 'full_attn_idxs'");
  if (!types.empty() && types.size() != convolves.size())
    return fail(Code::kMalformed, "config.json: 'layer_types' has {} values for {} layers", types.size(),
                convolves.size());
  for (size_t i = 0; i < convolves.size(); ++i)
    convolves[i] =
        types.empty() ? std::ranges::find(attends, static_cast<float>(i)) == attends.end() : types[i] == "conv";
  return convolves;
}

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  if (keys.hugging_face()) config.norm_eps = static_cast<float>(TRY(keys.float_or("", "norm_eps", 1e-5)));
  if (TRY(keys.bool_or("", "conv_bias", false)))
    return fail(Code::kUnsupported, "config.json: 'conv_bias' is true; LFM2 is known without");
  config.conv_taps = TRY(keys.require_int("shortconv.l_cache", "conv_L_cache"));
  const int d_ffn = TRY(feed_forward_width(keys));
  const auto convolves = TRY(convolving_layers(keys, config));
  for (size_t i = 0; i < convolves.size(); ++i) {
    LayerConfig& layer = config.layers[i];
    layer.d_ffn = d_ffn;
    if (!convolves[i]) continue;
    layer.mixer = Mixer::kShortConv;
    layer.n_heads = layer.n_kv_heads = layer.head_dim = 0;
  }
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"Lfm2ForCausalLM"};
constexpr std::array kNames{
    TensorName{"output_norm.weight", "model.embedding_norm.weight"},
    TensorName{"attn_norm.weight", "operator_norm.weight"},
    TensorName{"attn_output.weight", "self_attn.out_proj.weight"},
    TensorName{"attn_q_norm.weight", "self_attn.q_layernorm.weight"},
    TensorName{"attn_k_norm.weight", "self_attn.k_layernorm.weight"},
    TensorName{"shortconv.in_proj.weight", "conv.in_proj.weight"},
    TensorName{"shortconv.conv.weight", "conv.conv.weight"},
    TensorName{"shortconv.out_proj.weight", "conv.out_proj.weight"},
    TensorName{"ffn_norm.weight", "ffn_norm.weight"},
    TensorName{"ffn_gate.weight", "feed_forward.w1.weight"},
    TensorName{"ffn_up.weight", "feed_forward.w3.weight"},
    TensorName{"ffn_down.weight", "feed_forward.w2.weight"},
};

}  // namespace

const Family kLfm2{.name = "lfm2", .hf_classes = kClasses, .configure = configure, .hf_names = kNames};

}  // namespace hearth
