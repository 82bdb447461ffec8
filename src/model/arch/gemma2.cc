// Gemma 2: norms after attention and feed-forward too, capped scores and logits, every other layer sees only a window.
#include <cmath>

#include "model/arch/gemma.h"

namespace hearth {

Result<DecoderConfig> configure_gemma(const ModelKeys& keys, int layers_of_27b) {
  DecoderConfig config = TRY(configure_plain(keys));
  config.glu = GluKind::kGeluTanh;
  config.norm_plus_one = keys.hugging_face();
  config.embedding_scale = std::sqrt(static_cast<float>(config.d_model));
  config.logit_soft_cap =
      static_cast<float>(TRY(keys.float_or("final_logit_softcapping", "final_logit_softcapping", 0)));
  config.attention_soft_cap =
      static_cast<float>(TRY(keys.float_or("attn_logit_softcapping", "attn_logit_softcapping", 0)));
  // Scores are divided by the root of query_pre_attn_scalar. GGUF has no key for it: it is d_model / n_heads in the
  // 27B models and head_dim in all others.
  const LayerConfig& first = config.layers.front();
  const int usual = config.n_layers() == layers_of_27b ? config.d_model / first.n_heads : first.head_dim;
  const double scalar = TRY(keys.float_or("", "query_pre_attn_scalar", usual));
  if (!(scalar > 0)) return fail(Code::kMalformed, "query_pre_attn_scalar is {}; it must be above 0", scalar);
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(scalar));
  return config;
}

namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  constexpr int kLayersOf27b = 46;
  constexpr int kUsualWindow = 4096, kUsualPattern = 2;
  DecoderConfig config = TRY(configure_gemma(keys, kLayersOf27b));
  TRY(set_windows(keys, kUsualWindow, kUsualPattern, config));
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"Gemma2ForCausalLM"};

}  // namespace

const Family kGemma2{.name = "gemma2", .hf_classes = kClasses, .configure = configure, .hf_names = kGemmaNames};

}  // namespace hearth
