// What a model's settings may say: errors name what is wrong, and nothing that a file says is a fault.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// A copy of a Hugging Face folder with one setting of config.json changed (null: taken away).
Result<LoadedModel> load_changed(const std::string& family, const std::string& field, const json::value& value) {
  const TestFolder copy;
  json::object config = json::parse(golden_text(kGoldenFolder / family / "config.json")).as_object();
  if (value.is_null())
    config.erase(field);
  else
    config[field] = value;
  copy.write("config.json", json::serialize(config));
  copy.write("model.safetensors", golden_text(kGoldenFolder / family / "model.safetensors"));
  return load_golden(copy.path(), "cpu", 32);
}

TEST(SettingsTest, FewerExpertsAreAnotherPrecisionAndOnlyOnRequest) {
  const Checkpoint mixture = open_checkpoint(kGoldenFolder / "mixtral").value();
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto logits = [&](const Checkpoint& checkpoint,
                          int experts) -> Result<std::pair<std::string, std::vector<float>>> {
    auto decoder =
        TRY(Decoder::load(checkpoint, *backend, {.context = 32, .rows_max = 0, .progress = {}, .experts = experts}));
    auto store = TRY(SequenceStore::create(*backend, decoder->config(),
                                           {.kv_type = KvType::kF16, .positions_max = 32, .sequences_max = 1}));
    const SequenceId id = TRY(store->open());
    const std::vector<int32_t> tokens{1, 2, 3};
    TRY(store->reserve(id, 3));
    const SequenceRows rows = store->rows(id, 0, 3);
    decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, *store);
    std::vector<float> out(static_cast<size_t>(decoder->config().n_vocab));
    const int32_t last = 2;
    decoder->logits({&last, 1}, out);
    return std::pair(decoder->precision(), std::move(out));
  };
  const auto whole = logits(mixture, 0).value(), same = logits(mixture, 2).value(), fewer = logits(mixture, 1).value();
  EXPECT_EQ(whole, same) << "the model's own number is the model";
  EXPECT_EQ(fewer.first, "8 experts 1") << "state of fewer experts is another";
  EXPECT_NE(fewer.second, whole.second);
  EXPECT_NE(message(logits(mixture, 3)).find("made for 2"), std::string::npos);
  EXPECT_NE(message(logits(open_checkpoint(kGoldenFolder / "llama").value(), 1)).find("no mixture"), std::string::npos);
}

TEST(SettingsTest, ErrorsNameWhatIsWrong) {
  struct Case {
    std::string family, field;
    json::value value;
    std::vector<std::string> mentions;
  };
  const std::vector<Case> cases{
      {"llama", "architectures", json::array{"UnheardOfForCausalLM"}, {"UnheardOfForCausalLM", "qwen2"}},
      {"llama", "hidden_size", nullptr, {"hidden_size"}},
      {"llama", "num_hidden_layers", "two", {"num_hidden_layers"}},
      {"llama", "num_hidden_layers", 3, {"model.layers.2.input_layernorm.weight"}},
      {"llama", "intermediate_size", 48, {"model.layers.0.mlp.gate_proj.weight", "48"}},
      {"llama", "num_key_value_heads", 3, {"3", "heads"}},
      {"llama", "rope_scaling", json::object{{"rope_type", "spiral"}}, {"spiral", "yarn"}},
      {"qwen3-moe", "num_experts", 7, {"mlp.gate.weight", "7"}},
      {"qwen3-moe", "num_experts_per_tok", 9, {"9", "experts"}},
      {"smollm3", "no_rope_layers", json::array{1, 0}, {"no_rope_layers", "4"}},
      {"gemma3-layer-types", "layer_types", json::array{"full_attention"}, {"layer_types"}},
      {"lfm2", "conv_L_cache", 4, {"conv.conv.weight", "4"}},
      {"phi3-longrope", "partial_rotary_factor", 0.5, {"rope", "factors"}},
      {"granite", "logits_scaling", 0.0, {"logits_scaling"}},
      {"llama", "hidden_act", "relu2", {"hidden_act", "relu2"}},
      {"llama", "num_hidden_layers", 1, {"model.layers.1."}},
      {"granite", "tie_word_embeddings", false, {"lm_head.weight"}},
  };
  for (const Case& each : cases) {
    const auto loaded = load_changed(each.family, each.field, each.value);
    ASSERT_FALSE(loaded) << each.family << " " << each.field;
    for (const std::string& mention : each.mentions)
      EXPECT_NE(loaded.error().message.find(mention), std::string::npos)
          << each.field << ": " << loaded.error().message;
  }
}

// The same files with other settings.
Checkpoint with_config(const Checkpoint& original, json::object config) {
  const auto tensors = original.tensors();
  auto changed = Checkpoint::create(original.path(), {.kind = original.kind(),
                                                      .files = {},
                                                      .metadata = {},
                                                      .config = std::move(config),
                                                      .tensors = {tensors.begin(), tensors.end()}});
  EXPECT_EQ(message(changed), "");
  return std::move(*changed);
}

Checkpoint with_entry(const Checkpoint& original, size_t index, const MetadataValue& value) {
  const auto old = original.metadata().entries();
  std::vector<MetadataEntry> entries(old.begin(), old.end());
  entries[index].value = value;
  const auto tensors = original.tensors();
  auto changed = Checkpoint::create(original.path(), {.kind = original.kind(),
                                                      .files = {},
                                                      .metadata = Metadata::create(std::move(entries)).value(),
                                                      .config = {},
                                                      .tensors = {tensors.begin(), tensors.end()}});
  EXPECT_EQ(message(changed), "");
  return std::move(*changed);
}

// Loads and, if that is allowed, runs: whatever a setting says, there is an answer or an error, and no fault.
void load_and_run(const Checkpoint& checkpoint, Backend& backend) {
  auto decoder = Decoder::load(checkpoint, backend, {.context = 0, .rows_max = 4, .progress = {}});
  if (!decoder) {
    EXPECT_FALSE(decoder.error().message.empty());
    return;
  }
  auto store = SequenceStore::create(backend, (*decoder)->config(),
                                     {.kv_type = KvType::kF16, .positions_max = 32, .sequences_max = 1});
  ASSERT_EQ(message(store), "");
  const SequenceId id = (*store)->open().value();
  const int count = std::min(3, (*decoder)->rows_max());
  ASSERT_EQ(message((*store)->reserve(id, count)), "");
  const std::vector<int32_t> tokens(static_cast<size_t>(count), 1), last{count - 1};
  const std::vector<SequenceRows> rows{(*store)->rows(id, 0, count)};
  (*decoder)->run({.tokens = tokens, .sequences = rows}, **store);
  std::vector<float> logits(static_cast<size_t>((*decoder)->config().n_vocab));
  (*decoder)->logits(last, logits);
}

// A model file from a stranger may say anything.
TEST(SettingsTest, AnySettingOfConfigJsonLoadsOrFailsCleanly) {
  auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  const std::vector<json::value> values{nullptr,       0,     3,    -1,  2147483647,    4294967296,
                                        0.5,           1e300, true, "x", json::array{}, json::array{1, 1e300},
                                        json::object{}};
  for (const auto& entry : fs::directory_iterator(kGoldenFolder)) {
    const Checkpoint original = open_checkpoint(entry.path()).value();
    for (const auto& [field, old] : original.config()) {
      for (const json::value& value : values) {
        json::object config = original.config();
        config[field] = value;
        load_and_run(with_config(original, config), *backend);
        if (!old.is_object()) continue;
        for (const auto& [inner, unused] : old.get_object()) {
          config[field] = old;
          config[field].as_object()[inner] = value;
          load_and_run(with_config(original, config), *backend);
        }
      }
    }
  }
}

TEST(SettingsTest, AnyKeyOfAGgufLoadsOrFailsCleanly) {
  auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  const std::vector<std::vector<uint8_t>> bytes{{0, 0, 0, 0}, {3, 0, 0, 0}, {255, 255, 255, 127}, {0, 0, 192, 127}};
  std::vector<MetadataValue> values;
  for (const auto& four : bytes)
    for (const ValueType type : {ValueType::kU32, ValueType::kI32, ValueType::kF32})
      values.push_back({.type = type,
                        .element = ValueType::kU8,
                        .count = 1,
                        .bytes = std::as_bytes(std::span(four)),
                        .strings = {}});
  for (const ValueType element : {ValueType::kU32, ValueType::kF32, ValueType::kBool})
    for (const auto& four : bytes)
      values.push_back({.type = ValueType::kArray,
                        .element = element,
                        .count = 4 / value_type_bytes(element),
                        .bytes = std::as_bytes(std::span(four)),
                        .strings = {}});
  for (const auto& entry : fs::directory_iterator(kGoldenFolder)) {
    if (!fs::exists(entry.path() / "model.gguf")) continue;
    const Checkpoint original = open_checkpoint(entry.path() / "model.gguf").value();
    for (size_t i = 0; i < original.metadata().entries().size(); ++i)
      for (const MetadataValue& value : values) load_and_run(with_entry(original, i, value), *backend);
  }
}

}  // namespace
}  // namespace hearth
