// Embeddings against those that an independent program computes from the same files (tests/reference/make_encoder.py).
#include "model/encoder.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <thread>

#include "base/exact_math.h"
#include "base/json.h"
#include "model/gguf_writer.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
const fs::path kBert = HEARTH_TEST_DATA "/encoders/bert";

std::unique_ptr<Encoder> load(const fs::path& path, std::string_view isa = {}, int n_threads = 2) {
  auto backend = create_backend("cpu", {.n_threads = n_threads, .isa = std::string(isa)}).value();
  auto encoder = Encoder::load(path, std::move(backend));
  EXPECT_TRUE(encoder) << encoder.error().message;
  return encoder ? std::move(*encoder) : nullptr;
}

struct Reference {
  std::string text;
  std::vector<Token> tokens;
  std::vector<float> embedding;
};
std::vector<Reference> references() {
  const json::value root = parse_json(read_file(kBert / "reference.json", 1 << 20).value()).value();
  std::vector<Reference> all;
  for (const json::value& each : root.at("texts").as_array())
    all.push_back({json::value_to<std::string>(each.at("text")), json::value_to<std::vector<Token>>(each.at("tokens")),
                   json::value_to<std::vector<float>>(each.at("embedding"))});
  return all;
}

void expect_references(Encoder& encoder) {
  for (const Reference& reference : references()) {
    const auto tokens = encoder.tokens(reference.text, true).value();
    EXPECT_EQ(tokens, reference.tokens) << reference.text;
    const auto embedding = encoder.embed({&tokens, 1});
    ASSERT_EQ(embedding.size(), reference.embedding.size());
    for (size_t i = 0; i < embedding.size(); ++i) EXPECT_NEAR(embedding[i], reference.embedding[i], 2e-6) << i;
  }
}

// A folder's model with its files changed.
class Changed : public TestFolder {
 public:
  Changed() {
    for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"})
      fs::copy_file(kBert / file, path() / file);
  }
  void replace(std::string_view file, std::string_view from, std::string_view to) const {
    std::string text = read_file(path() / file, 1 << 20).value();
    const size_t at = text.find(from);
    ASSERT_NE(at, text.npos);
    write(file, text.replace(at, from.size(), to));
  }
};

// The same model as a GGUF file, with the names that llama.cpp's converter gives.
void write_gguf(const fs::path& path) {
  const Checkpoint original = open_checkpoint(kBert).value();
  const TextSide text = load_text(original).value();
  const TokenizerData& data = text.tokenizer->data();
  GgufWriter writer;
  writer.set("general.architecture", "bert");
  for (const auto& [key, value] : {std::pair{"block_count", 2u},
                                   {"context_length", 24u},
                                   {"embedding_length", 32u},
                                   {"feed_forward_length", 64u},
                                   {"attention.head_count", 4u},
                                   {"pooling_type", 1u}})
    writer.set(std::string("bert.") + key, uint32_t{value});
  writer.set("bert.attention.layer_norm_epsilon", 1e-12f);
  writer.set("tokenizer.ggml.model", "bert");
  writer.set("tokenizer.ggml.tokens", std::span<const std::string>(data.tokens));
  std::vector<int32_t> kinds(data.tokens.size(), 1);
  std::fill_n(kinds.begin(), 5, 3);
  writer.set("tokenizer.ggml.token_type", std::span<const int32_t>(kinds));
  for (const auto& [key, value] :
       {std::pair{"padding", 0u}, {"unknown", 1u}, {"cls", 2u}, {"seperator", 3u}, {"mask", 4u}})
    writer.set(fmt::format("tokenizer.ggml.{}_token_id", key), uint32_t{value});
  std::vector<std::string> names;
  for (const char* name : {"token_embd", "position_embd", "token_types"})
    names.push_back(std::string(name) + ".weight");
  std::vector<std::string> parts{"token_embd_norm"};
  for (int i = 0; i < 2; ++i)
    for (const char* part :
         {"attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm"})
      parts.push_back(fmt::format("blk.{}.{}", i, part));
  for (const std::string& part : parts)
    for (const char* kind : {".weight", ".bias"}) names.push_back(part + kind);
  for (const std::string& name : names) {
    const TensorRef* tensor = original.find_tensor(bert_tensor_name(original, name));
    ASSERT_NE(tensor, nullptr) << name;
    writer.add_tensor(name, tensor->type, std::span(tensor->shape).first(static_cast<size_t>(tensor->n_dims)),
                      tensor->data);
  }
  ASSERT_TRUE(writer.write(path));
}

TEST(Encoder, AgreesWithAnIndependentProgramFromBothFormsOfFile) {
  expect_references(*load(kBert));
  const TestFolder folder;
  write_gguf(folder.path() / "bert.gguf");
  expect_references(*load(folder.path() / "bert.gguf"));
}

TEST(Encoder, OneAnswerWhateverIsEmbeddedBesideItAndOnWhichMachine) {
  std::vector<std::vector<Token>> texts;
  const auto encoder = load(kBert);
  for (const Reference& reference : references()) texts.push_back(encoder->tokens(reference.text, true).value());
  for (int i = 0; i < 40; ++i) texts.push_back(texts[static_cast<size_t>(i) % 6]);  // more rows than one pass has
  const auto together = encoder->embed(texts);
  const auto scalar = load(kBert, "scalar", 1);
  const size_t d = static_cast<size_t>(encoder->config().d_model);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<float> part(together.begin() + static_cast<ptrdiff_t>(i * d),
                                  together.begin() + static_cast<ptrdiff_t>((i + 1) * d));
    EXPECT_EQ(encoder->embed(std::span(texts).subspan(i, 1)), part) << i;
    if (i < 6) {
      EXPECT_EQ(scalar->embed(std::span(texts).subspan(i, 1)), part) << i;
    }
  }
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t) threads.emplace_back([&] { EXPECT_EQ(encoder->embed(texts), together); });
}

TEST(Encoder, TheFilesBesideTheWeightsSayHowPositionsBecomeAVector) {
  const Changed folder;
  fs::create_directory(folder.path() / "1_Pooling");
  folder.write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
  folder.write("modules.json", R"([{"type":"sentence_transformers.models.Transformer"}])");
  folder.write("sentence_bert_config.json", R"({"max_seq_length": 9})");
  const auto encoder = load(folder.path());
  EXPECT_EQ(encoder->config().pooling, Pooling::kFirst);
  EXPECT_FALSE(encoder->config().normalise);
  EXPECT_EQ(encoder->tokens("sea sea sea sea sea sea sea", false)->size(), 9u);
  const auto refused = encoder->tokens("sea sea sea sea sea sea sea sea", false);
  EXPECT_EQ(refused.error().code, Code::kLimit);
  EXPECT_NE(refused.error().message.find("10 tokens"), std::string::npos) << refused.error().message;
  EXPECT_EQ(encoder->tokens("sea sea sea sea sea sea sea sea", true)->size(), 9u);
  folder.write("1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})");
  auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  EXPECT_NE(Encoder::load(folder.path(), std::move(backend)).error().message.find("pooling_mode_max_tokens"),
            std::string::npos);
}

TEST(Encoder, RefusesWhatItCannotComputeOrTrust) {
  const struct {
    const char *file, *from, *to, *message;
  } cases[] = {
      {"config.json", "\"gelu\"", "\"relu\"", "hidden_act is 'relu'"},
      {"config.json", "\"absolute\"", "\"relative_key\"", "position_embedding_type"},
      {"config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "5 heads"},
      {"config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "number of heads is 0"},
      {"config.json", "\"hidden_size\": 32", "\"hidden_size\": 64", "shape [32, 48]"},
      {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
       "encoder.layer.2.attention.self.query.weight"},
      {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000", "number of layers"},
      {"config.json", "\"max_position_embeddings\": 24", "\"max_position_embeddings\": 25", "position_embeddings"},
      {"config.json", "\"max_position_embeddings\": 24", "\"max_position_embeddings\": 2", "2 tokens"},
      {"config.json", "BertModel", "DebertaModel", "DebertaModel"},
  };
  for (const auto& each : cases) {
    const Changed folder;
    folder.replace(each.file, each.from, each.to);
    auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    const auto refused = Encoder::load(folder.path(), std::move(backend));
    ASSERT_FALSE(refused) << each.to;
    EXPECT_NE(refused.error().message.find(each.message), std::string::npos) << refused.error().message;
  }
}

TEST(ExactMath, ErfAndTheQuickExpKeepTheirBounds) {
  for (double x = -7; x <= 7; x += 0.00137) EXPECT_NEAR(exact_erf(x), std::erf(x), 1e-10) << x;
  for (double x = -700; x <= 700; x += 0.0937) EXPECT_NEAR(quick_exp(x) / std::exp(x), 1, 1e-10) << x;
  EXPECT_EQ(quick_exp(-1e9), 0);
  EXPECT_TRUE(std::isnan(exact_erf(std::nan(""))) && std::isnan(quick_exp(std::nan(""))));
}

}  // namespace
}  // namespace hearth
