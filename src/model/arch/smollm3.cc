// SmolLM3: Llama in which every fourth layer has no rotary embedding.
#include <array>

#include "model/arch/all.h"

namespace hearth {
namespace {

Result<DecoderConfig> configure(const ModelKeys& keys) {
  constexpr int kUsualInterval = 4;
  DecoderConfig config = TRY(configure_plain(keys));
  config.ropes.front().style = keys.hugging_face() ? RopeStyle::kHalves : RopeStyle::kInterleaved;
  const int interval = TRY(keys.int_or("", "no_rope_layer_interval", kUsualInterval));
  if (interval < 1) return fail(Code::kMalformed, "no_rope_layer_interval is {}; it must be at least 1", interval);
  std::vector<int> turns;  // as config.json's no_rope_layers has it: 1 with rope, 0 without
  for (int i = 0; i < config.n_layers(); ++i) turns.push_back((i + 1) % interval != 0);
  if (keys.field("no_rope_layers")) turns = TRY(keys.per_layer("", "no_rope_layers", config.n_layers()));
  for (size_t i = 0; i < turns.size(); ++i) config.layers[i].rope = turns[i] != 0 ? 0 : -1;
  return config;
}

constexpr std::array<std::string_view, 1> kClasses{"SmolLM3ForCausalLM"};

}  // namespace

const Family kSmolLm3{.name = "smollm3", .hf_classes = kClasses, .configure = configure, .hf_names = {}};

}  // namespace hearth
