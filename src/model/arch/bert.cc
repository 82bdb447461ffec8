#include "model/arch/bert.h"

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/limits.h"

namespace hearth {
namespace {

namespace json = boost::json;

constexpr std::array kNames{
    TensorName{"token_embd.", "embeddings.word_embeddings."},
    TensorName{"position_embd.", "embeddings.position_embeddings."},
    TensorName{"token_types.", "embeddings.token_type_embeddings."},
    TensorName{"token_embd_norm.", "embeddings.LayerNorm."},
    TensorName{"attn_q.", "attention.self.query."},
    TensorName{"attn_k.", "attention.self.key."},
    TensorName{"attn_v.", "attention.self.value."},
    TensorName{"attn_output.", "attention.output.dense."},
    TensorName{"attn_output_norm.", "attention.output.LayerNorm."},
    TensorName{"ffn_up.", "intermediate.dense."},
    TensorName{"ffn_down.", "output.dense."},
    TensorName{"layer_output_norm.", "output.LayerNorm."},
};

// A JSON object beside the weights; empty if there is no such file. In a store files lie one level deep, so that a folder's name
// is part of the file's there.
Result<json::object> object_of(const Checkpoint& checkpoint, std::string name) {
  auto text = checkpoint.text_file(name);
  if (!text && text.error().code == Code::kNotFound) {
    std::ranges::replace(name, '/', '_');
    text = checkpoint.text_file(name);
  }
  if (!text)
    return text.error().code == Code::kNotFound ? Result<json::object>(json::object()) : std::unexpected(text.error());
  auto value = parse_json(*text);
  if (!value) return within(name, value.error());
  if (!value->is_object()) return fail(Code::kMalformed, "{}: is no JSON object", name);
  return std::move(value->get_object());
}

bool flag(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_bool() && value->get_bool();
}

// What sentence-transformers writes beside a model: how texts are cut and positions become one vector.
Result<void> read_pooling_of_folder(const Checkpoint& checkpoint, EncoderConfig& config) {
  const json::object pooling = TRY(object_of(checkpoint, "1_Pooling/config.json"));
  for (const auto& [key, value] : pooling) {
    const std::string_view name = key;
    if (!name.starts_with("pooling_mode_") || !flag(pooling, name)) continue;
    if (name == "pooling_mode_cls_token")
      config.pooling = Pooling::kFirst;
    else if (name != "pooling_mode_mean_tokens")
      return fail(Code::kUnsupported, "1_Pooling/config.json: {} is not known; means and first tokens are", name);
  }
  const json::object sentence = TRY(object_of(checkpoint, "sentence_bert_config.json"));
  const json::value* most = sentence.if_contains("max_seq_length");
  if (most && most->is_int64() && most->get_int64() >= 3)
    config.tokens_max = static_cast<int>(std::min<int64_t>(config.tokens_max, most->get_int64()));
  // Without a list of modules the usual ones are taken; with one, it says whether vectors get length 1.
  const auto modules = checkpoint.text_file("modules.json");
  if (modules) config.normalise = modules->find("models.Normalize\"") != std::string::npos;
  return {};
}

Result<void> read_pooling_of_gguf(const ModelKeys& keys, EncoderConfig& config) {
  constexpr int kMean = 1, kFirst = 2;
  const int pooling = TRY(keys.int_or("pooling_type", "", kMean));
  if (pooling != kMean && pooling != kFirst)
    return fail(Code::kUnsupported, "pooling_type {} is not known; 1 (mean) and 2 (first token) are", pooling);
  config.pooling = pooling == kFirst ? Pooling::kFirst : Pooling::kMean;
  return {};
}

Result<void> check(const EncoderConfig& c) {
  auto in_range = [](std::string_view what, int value, uint32_t most) -> Result<void> {
    if (value >= 1 && static_cast<uint32_t>(value) <= most) return {};
    return fail(Code::kLimit, "{} is {}, 1 to {} are allowed", what, value, most);
  };
  TRY(in_range("the number of layers", c.n_layers, limits::kLayers));
  TRY(in_range("the width", c.d_model, limits::kWidth));
  TRY(in_range("the width of the feed-forward", c.d_ffn, limits::kWidth));
  TRY(in_range("the number of heads", c.n_heads, limits::kHeads));
  TRY(in_range("the vocabulary", c.n_vocab, limits::kVocabulary));
  TRY(in_range("the number of positions", c.n_positions, limits::kEncoderPositions));
  if (c.d_model % c.n_heads != 0)
    return fail(Code::kMalformed, "{} heads do not share a width of {} evenly", c.n_heads, c.d_model);
  if (c.tokens_max < 3) return fail(Code::kMalformed, "texts of {} tokens have no room for a word", c.tokens_max);
  if (!(c.norm_eps >= 0 && c.norm_eps < 1)) return fail(Code::kMalformed, "the norm's epsilon is {}", c.norm_eps);
  return {};
}

}  // namespace

bool is_bert(const Checkpoint& checkpoint) {
  const ModelKeys keys(checkpoint);
  if (!keys.hugging_face()) return keys.architecture() == "bert";
  return keys.architecture() == "BertModel" || keys.architecture() == "BertForMaskedLM";
}

Result<EncoderConfig> configure_bert(const Checkpoint& checkpoint) {
  const ModelKeys keys(checkpoint);
  if (!is_bert(checkpoint))
    return fail(Code::kUnsupported, "'{}' is no encoder that is known; bert (BertModel) is", keys.architecture());
  EncoderConfig config;
  config.n_layers = TRY(keys.require_int("block_count", "num_hidden_layers"));
  config.d_model = TRY(keys.require_int("embedding_length", "hidden_size"));
  config.n_heads = TRY(keys.require_int("attention.head_count", "num_attention_heads"));
  config.d_ffn = TRY(keys.require_int("feed_forward_length", "intermediate_size"));
  config.norm_eps = TRY(keys.float_or("attention.layer_norm_epsilon", "layer_norm_eps", 1e-12));
  config.n_positions = TRY(keys.require_int("context_length", "max_position_embeddings"));
  config.tokens_max = config.n_positions;
  const TensorRef* words = checkpoint.find_tensor(bert_tensor_name(checkpoint, "token_embd.weight"));
  config.n_vocab = words ? static_cast<int>(std::min<uint64_t>(words->shape[1], INT32_MAX)) : 0;
  const TensorRef* segments = checkpoint.find_tensor(bert_tensor_name(checkpoint, "token_types.weight"));
  config.n_segments = segments ? static_cast<int>(std::min<uint64_t>(segments->shape[1], limits::kWidth)) : 0;
  const std::string activation = TRY(keys.string_or("", "hidden_act", "gelu"));
  if (activation != "gelu") return fail(Code::kUnsupported, "hidden_act is '{}', only gelu is known", activation);
  const std::string positions = TRY(keys.string_or("", "position_embedding_type", "absolute"));
  if (positions != "absolute")
    return fail(Code::kUnsupported, "position_embedding_type is '{}', only absolute is known", positions);
  TRY(keys.hugging_face() ? read_pooling_of_folder(checkpoint, config) : read_pooling_of_gguf(keys, config));
  TRY(check(config));
  return config;
}

std::string bert_tensor_name(const Checkpoint& checkpoint, std::string_view gguf_name) {
  if (checkpoint.has_gguf_names()) return std::string(gguf_name);
  std::string layer;
  std::string_view rest = gguf_name;
  if (rest.starts_with("blk.")) {
    const size_t dot = rest.find('.', 4);
    layer = fmt::format("encoder.layer.{}.", rest.substr(4, dot - 4));
    rest.remove_prefix(dot + 1);
  }
  std::string name(rest);
  for (const TensorName& each : kNames)
    if (rest.starts_with(each.gguf)) name = layer + std::string(each.hf) + std::string(rest.substr(each.gguf.size()));
  // With a head for training the encoder is a part called "bert".
  return checkpoint.find_tensor("bert." + name) ? "bert." + name : name;
}

}  // namespace hearth
