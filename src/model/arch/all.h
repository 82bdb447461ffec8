// The registry of model families: one file of this folder each.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "model/checkpoint.h"
#include "model/decoder_config.h"

namespace hearth {

// A model file's settings by both names they go by: GGUF's key without the family's prefix, and config.json's field.
// "" for a name means that form has no such setting. Errors name the key that was looked for.
class ModelKeys {
 public:
  explicit ModelKeys(const Checkpoint& checkpoint);

  // True for config.json and safetensors, false for GGUF.
  [[nodiscard]] bool hugging_face() const { return config_ != nullptr; }
  [[nodiscard]] std::string_view architecture() const { return architecture_; }

  Result<int> require_int(std::string_view gguf, std::string_view hf) const;
  Result<std::optional<int>> find_int(std::string_view gguf, std::string_view hf) const;
  Result<int> int_or(std::string_view gguf, std::string_view hf, int fallback) const;
  Result<std::optional<double>> find_float(std::string_view gguf, std::string_view hf) const;
  Result<double> require_float(std::string_view gguf, std::string_view hf) const;
  Result<double> float_or(std::string_view gguf, std::string_view hf, double fallback) const;
  Result<bool> bool_or(std::string_view gguf, std::string_view hf, bool fallback) const;
  Result<std::string> string_or(std::string_view gguf, std::string_view hf, std::string_view fallback) const;
  // One value per layer: an array of n_layers, or a number that all share.
  Result<std::vector<int>> per_layer(std::string_view gguf, std::string_view hf, int n_layers,
                                     std::optional<int> fallback = {}) const;
  // One flag per layer from an array of booleans or numbers; empty if absent or not an array.
  Result<std::vector<bool>> layer_flags(std::string_view gguf, int n_layers) const;
  // An array of numbers; empty if absent.
  Result<std::vector<float>> floats(std::string_view gguf, std::string_view hf) const;
  // An array of texts (layer_types); empty if absent.
  Result<std::vector<std::string>> strings(std::string_view hf) const;
  // A dotted path reaches into objects of config.json: "rope_scaling.factor". Null if absent or not Hugging Face.
  [[nodiscard]] const boost::json::value* field(std::string_view hf) const;

  [[nodiscard]] const Checkpoint& checkpoint() const { return *checkpoint_; }

 private:
  [[nodiscard]] std::string key(std::string_view gguf) const;
  std::string missing(std::string_view gguf, std::string_view hf) const;

  const Checkpoint* checkpoint_;
  const boost::json::object* config_ = nullptr;
  std::string architecture_;
};

// A tensor's name in Hugging Face files, for a GGUF name; "blk.N." and "model.layers.N." are added by the loader.
struct TensorName {
  std::string_view gguf, hf;
};

struct Family {
  std::string_view name;                         // GGUF's general.architecture
  std::span<const std::string_view> hf_classes;  // config.json's architectures
  Result<DecoderConfig> (*configure)(const ModelKeys& keys);
  std::span<const TensorName> hf_names;  // where they differ from kHfNames
};

std::span<const Family* const> all_families();
// kUnsupported names the family that is not known, and those that are.
Result<const Family*> find_family(const Checkpoint& checkpoint);
// The file's name of a tensor, given GGUF's name ("blk.3.attn_q.weight") and the form of the file.
std::string tensor_name(const Family& family, const Checkpoint& checkpoint, std::string_view gguf_name);

// What most families share: sizes, heads, context, norm, rope with its scaling; one attention layer like the other.
// Families start from this and change what is theirs.
Result<DecoderConfig> configure_plain(const ModelKeys& keys);
// The same with Qwen's window: from layer max_window_layers on, where use_sliding_window says so.
Result<DecoderConfig> configure_qwen(const ModelKeys& keys);
// The rope of a file, with its scaling.
Result<RopeConfig> configure_rope(const ModelKeys& keys, int head_dim);
// Gives `sliding_window` to the layers that have one: those config.json's layer_types name, or those GGUF flags; else all but
// every pattern-th, the pattern being the file's or `usual_pattern`.
Result<void> set_windows(const ModelKeys& keys, int usual_window, int usual_pattern, DecoderConfig& config);

extern const Family kGemma2, kGemma3, kGranite, kGraniteMoe, kLfm2, kLlama, kMistral, kPhi3, kQwen2, kQwen3, kQwen3Moe,
    kSmolLm3;

}  // namespace hearth
