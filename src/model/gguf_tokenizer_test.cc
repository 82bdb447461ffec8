#include "model/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace hearth {
namespace {

class GgufTokenizer : public testing::Test {
 protected:
  void set_model(std::string_view model, const std::vector<std::string>& tokens) {
    writer_.set("tokenizer.ggml.model", model);
    writer_.set("tokenizer.ggml.tokens", std::span<const std::string>(tokens));
  }
  Result<TokenizerData> read() {
    bytes_ = writer_.bytes();
    file_ = *parse_gguf(bytes_);
    return tokenizer_from_gguf(file_.metadata);
  }
  void expect_refused(Code code, const std::vector<std::string>& words) {
    const auto data = read();
    ASSERT_FALSE(data.has_value());
    EXPECT_EQ(data.error().code, code) << data.error().message;
    for (const std::string& word : words) {
      EXPECT_NE(data.error().message.find(word), std::string::npos) << data.error().message << " lacks " << word;
    }
  }
  GgufWriter writer_;
  std::vector<std::byte> bytes_;
  GgufFile file_;
  const std::vector<std::string> four_ = {"<unk>", "<s>", "</s>", "a"};
};

TEST_F(GgufTokenizer, ReadsSentencePiece) {
  set_model("llama", four_);
  const std::vector<float> scores = {0, 0, 0, -1.5f};
  const std::vector<int32_t> types = {2, 3, 3, 1};
  writer_.set("tokenizer.ggml.scores", std::span<const float>(scores));
  writer_.set("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  writer_.set("tokenizer.ggml.eot_token_id", uint32_t{3});
  const auto data = read();
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_EQ(data->kind, TokenizerKind::kSentenceBpe);
  EXPECT_EQ(data->tokens, four_);
  EXPECT_EQ(data->scores[3], -1.5f);
  EXPECT_EQ(data->kinds[0], TokenKind::kUnknown);
  EXPECT_EQ(data->kinds[1], TokenKind::kControl);
  EXPECT_EQ(data->bos, 1);
  EXPECT_EQ(data->eos, 2);
  EXPECT_EQ(data->unk, 0);
  EXPECT_EQ(data->eot, 3);
  EXPECT_EQ(data->end_of_generation, (std::vector<Token>{2, 3}));
  EXPECT_TRUE(data->add_bos);
  EXPECT_TRUE(data->add_space_prefix);
}

TEST_F(GgufTokenizer, ReadsByteBpe) {
  set_model("gpt2", four_);
  writer_.set("tokenizer.ggml.pre", "llama-bpe");
  const std::vector<std::string> merges = {"a a"};
  writer_.set("tokenizer.ggml.merges", std::span<const std::string>(merges));
  const auto data = read();
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_EQ(data->kind, TokenizerKind::kByteBpe);
  EXPECT_EQ(data->pre, "llama-bpe");
  EXPECT_EQ(data->merges, merges);
  EXPECT_EQ(data->bos, kNoToken);
  EXPECT_TRUE(data->add_bos);  // what this pre-tokenizer's models want
  EXPECT_FALSE(data->add_space_prefix);
}

TEST_F(GgufTokenizer, FlagsOfTheFileWin) {
  set_model("llama", four_);
  writer_.set("tokenizer.ggml.add_bos_token", false);
  writer_.set("tokenizer.ggml.add_eos_token", true);
  writer_.set("tokenizer.ggml.add_space_prefix", false);
  writer_.set("tokenizer.ggml.remove_extra_whitespaces", true);
  const auto data = read();
  EXPECT_FALSE(data->add_bos);
  EXPECT_TRUE(data->add_eos);
  EXPECT_FALSE(data->add_space_prefix);
  EXPECT_TRUE(data->remove_extra_spaces);
}

// llama.cpp issues 20735 and 24888: fewer scores or types than tokens were read past their end.
TEST_F(GgufTokenizer, T1_ScoresShorterThanTokens) {
  set_model("llama", four_);
  const std::vector<float> scores = {0, 0, 0};
  writer_.set("tokenizer.ggml.scores", std::span<const float>(scores));
  expect_refused(Code::kMalformed, {"tokenizer.ggml.scores", "3", "4"});
}

TEST_F(GgufTokenizer, T1_TypesLongerThanTokens) {
  set_model("llama", four_);
  const std::vector<int32_t> types(5, 1);
  writer_.set("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  expect_refused(Code::kMalformed, {"tokenizer.ggml.token_type", "5", "4"});
}

// Issue 26690: elements of one byte were read as four. Here every width is read as what it is.
TEST_F(GgufTokenizer, T1_NarrowTypesAreReadAsTheyAre) {
  set_model("llama", four_);
  const std::vector<uint8_t> types = {2, 3, 3, 1};
  writer_.set("tokenizer.ggml.token_type", std::span<const uint8_t>(types));
  const auto data = read();
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_EQ(data->kinds[2], TokenKind::kControl);
}

TEST_F(GgufTokenizer, T1_ArraysOfTheWrongTypeAreRefused) {
  set_model("llama", four_);
  writer_.set("tokenizer.ggml.scores", std::span<const std::string>(four_));
  expect_refused(Code::kMalformed, {"tokenizer.ggml.scores", "array of 4 string"});
}

TEST_F(GgufTokenizer, T1_UnknownTokenTypesAreRefused) {
  set_model("llama", four_);
  const std::vector<int32_t> types = {1, 7, 1, -1};
  writer_.set("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  expect_refused(Code::kMalformed, {"tokenizer.ggml.token_type[1] is 7"});
}

// GHSA-g4cc-763q-h9h6: an id beyond the vocabulary; and defaults are ids too (issues 14145 and 25508).
TEST_F(GgufTokenizer, T2_IdsBeyondTheVocabulary) {
  for (const int64_t id : {int64_t{4}, int64_t{1} << 31, int64_t{1} << 40, int64_t{-2}}) {
    writer_ = {};
    set_model("llama", four_);
    writer_.set("tokenizer.ggml.bos_token_id", id);
    expect_refused(Code::kMalformed, {"tokenizer.ggml.bos_token_id", std::to_string(id), "4 tokens"});
  }
}

TEST_F(GgufTokenizer, T2_DefaultsBeyondTheVocabularyAreDropped) {
  set_model("llama", {"a"});
  const auto llama = read();
  ASSERT_TRUE(llama.has_value()) << llama.error().message;
  EXPECT_EQ(llama->bos, kNoToken);
  EXPECT_EQ(llama->eos, kNoToken);
  EXPECT_EQ(llama->unk, 0);
  EXPECT_TRUE(llama->end_of_generation.empty());
  writer_ = {};
  set_model("bert", four_);
  const auto bert = read();
  ASSERT_TRUE(bert.has_value());
  EXPECT_EQ(bert->cls, kNoToken);
  EXPECT_EQ(bert->sep, kNoToken);
  EXPECT_EQ(bert->pad, 0);
}

TEST_F(GgufTokenizer, T2_AllOnesMeansNone) {
  set_model("llama", four_);
  writer_.set("tokenizer.ggml.eos_token_id", uint32_t{0xffffffff});
  writer_.set("tokenizer.ggml.bos_token_id", int32_t{-1});
  const auto data = read();
  ASSERT_TRUE(data.has_value()) << data.error().message;
  EXPECT_EQ(data->eos, kNoToken);
  EXPECT_EQ(data->bos, kNoToken);
}

TEST_F(GgufTokenizer, MissingOrUnknownParts) {
  writer_.set("tokenizer.ggml.model", "rwkv");
  expect_refused(Code::kUnsupported, {"rwkv"});
  writer_ = {};
  writer_.set("general.architecture", "llama");
  expect_refused(Code::kNotFound, {"tokenizer.ggml.model"});
  writer_ = {};
  set_model("gpt2", four_);
  expect_refused(Code::kNotFound, {"tokenizer.ggml.merges"});
  writer_ = {};
  set_model("llama", {});
  expect_refused(Code::kLimit, {"tokenizer.ggml.tokens"});
  writer_ = {};
  set_model("t5", four_);
  writer_.set("tokenizer.ggml.precompiled_charsmap", "text");
  expect_refused(Code::kMalformed, {"precompiled_charsmap"});
}

TEST_F(GgufTokenizer, TemplatesWithTheDefaultFirst) {
  writer_.set("tokenizer.chat_template.tool_use", "tools");
  writer_.set("tokenizer.chat_template", "plain");
  writer_.set("tokenizer.chat_templates", std::span<const std::string>(four_));
  bytes_ = writer_.bytes();
  file_ = *parse_gguf(bytes_);
  const auto templates = chat_templates_from_gguf(file_.metadata);
  ASSERT_TRUE(templates.has_value()) << templates.error().message;
  ASSERT_EQ(templates->size(), 2u);
  EXPECT_EQ((*templates)[0].name, "default");
  EXPECT_EQ((*templates)[0].text, "plain");
  EXPECT_EQ((*templates)[1].name, "tool_use");
}

TEST_F(GgufTokenizer, OversizedTemplatesAreLimits) {
  writer_.set("tokenizer.chat_template", std::string(limits::kTemplateBytes + 1, 'x'));
  bytes_ = writer_.bytes();
  file_ = *parse_gguf(bytes_);
  const auto templates = chat_templates_from_gguf(file_.metadata);
  ASSERT_FALSE(templates.has_value());
  EXPECT_EQ(templates.error().code, Code::kLimit);
}

}  // namespace
}  // namespace hearth
