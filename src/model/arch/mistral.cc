// Mistral: Llama with a sliding window over all layers. (GGUF files it under "llama" and has no window there.)
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  const int window = TRY(keys.int_or("attention.sliding_window", "sliding_window", 0));
  for (LayerConfig& layer : config.layers) layer.window = window;
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"MistralForCausalLM"};

}  // namespace

const Family kMistral{.name = "mistral", .hf_classes = kClasses, .configure = configure, .hf_names = {}};

}  // namespace hearth
