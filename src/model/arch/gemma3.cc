// Gemma 3: Gemma 2 with normed q and k instead of capped scores; five of six layers see a window, with a rope base of
// their own and no rope scaling.
#include "model/arch/gemma.h"

namespace hearth {
namespace {

constexpr int kGlobalRope = 0, kLocalRope = 1;

Result<DecoderConfig> configure(const ModelKeys& keys) {
  constexpr int kLayersOf27b = 62;
  constexpr int kUsualWindow = 4096, kUsualPattern = 6;
  constexpr double kLocalBase = 10000.0, kGlobalBase = 1e6;
  DecoderConfig config = TRY(configure_gemma(keys, kLayersOf27b));
  TRY(set_windows(keys, kUsualWindow, kUsualPattern, config));
  RopeConfig& global = config.ropes[kGlobalRope];
  if (keys.hugging_face() && !keys.field("rope_theta") && !keys.field("rope_parameters")) global.base = kGlobalBase;
  RopeConfig local;
  local.dims = global.dims;
  const bool by_kind = keys.field("rope_parameters.sliding_attention") != nullptr;
  local.base =
      TRY(keys.float_or("rope.freq_base_swa",
                        by_kind ? "rope_parameters.sliding_attention.rope_theta" : "rope_local_base_freq", kLocalBase));
  config.ropes.push_back(local);
  for (LayerConfig& layer : config.layers) layer.rope = layer.window > 0 ? kLocalRope : kGlobalRope;
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"Gemma3ForCausalLM"};

}  // namespace

const Family kGemma3{.name = "gemma3", .hf_classes = kClasses, .configure = configure, .hf_names = kGemmaNames};

}  // namespace hearth
