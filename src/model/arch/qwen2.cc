// Qwen2 and Qwen2.5: biases on q, k and v (found by their tensors), otherwise plain.
#include <algorithm>
#include <array>

#include "model/arch/all.h"

namespace hearth {

Result<DecoderConfig> configure_qwen(const ModelKeys& keys) {
  DecoderConfig config = TRY(configure_plain(keys));
  if (!TRY(keys.bool_or("", "use_sliding_window", false))) return config;
  const int window = TRY(keys.require_int("", "sliding_window"));
  const int first = TRY(keys.require_int("", "max_window_layers"));
  for (int i = std::max(0, first); i < config.n_layers(); ++i) config.layers[static_cast<size_t>(i)].window = window;
  return config;
}

namespace {
constexpr std::array<std::string_view, 1> kClasses{"Qwen2ForCausalLM"};
}  // namespace

const Family kQwen2{.name = "qwen2", .hf_classes = kClasses, .configure = configure_qwen, .hf_names = {}};

}  // namespace hearth
