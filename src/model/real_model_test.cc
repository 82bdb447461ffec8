// The readers on a real model's file.
#include "support/real_model.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "model/checkpoint.h"
#include "model/gguf.h"
#include "model/gguf_tokenizer.h"

namespace hearth {
namespace {

class RealModel : public testing::Test {
 protected:
  void SetUp() override {
    const auto path = test::real_model();
    if (!path) GTEST_SKIP() << "the tiny model was not fetched (./dev fetch tiny)";
    auto opened = open_checkpoint(*path);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    checkpoint_ = std::move(*opened);
  }
  Checkpoint checkpoint_;
};

TEST_F(RealModel, IsOpenedWithItsTokenizerAndTemplate) {
  EXPECT_EQ(*checkpoint_.metadata().require<std::string>("general.architecture"), "llama");
  EXPECT_EQ(checkpoint_.tensors().size(), 272u);
  const TensorRef* embedding = checkpoint_.find_tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(shape_text(*embedding), "[576, 49152]");
  const auto tokenizer = tokenizer_from_gguf(checkpoint_.metadata());
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->tokens.size(), 49152u);
  EXPECT_EQ(tokenizer->pre, "smollm");
  EXPECT_EQ(tokenizer->eos, 2);
  EXPECT_FALSE(tokenizer->add_bos);
  const auto templates = chat_templates_from_gguf(checkpoint_.metadata());
  ASSERT_TRUE(templates.has_value());
  EXPECT_EQ(templates->size(), 1u);
}

// A download that was cut anywhere must be an error that says so, not a model with holes.
TEST_F(RealModel, G9_TwoHundredTruncationsAreTwoHundredErrors) {
  const auto bytes = checkpoint_.files()[0].bytes();
  const auto header_bytes = static_cast<size_t>(checkpoint_.tensors()[0].data.data() - bytes.data());
  std::mt19937_64 random(200);
  for (int i = 0; i < 200; ++i) {
    const size_t size = random() % (i % 2 == 0 ? bytes.size() : header_bytes);
    const auto parsed = parse_gguf(bytes.first(size));
    ASSERT_FALSE(parsed.has_value()) << size;
    EXPECT_FALSE(parsed.error().message.empty());
    EXPECT_TRUE(parsed.error().code == Code::kMalformed) << parsed.error().message;
  }
}

}  // namespace
}  // namespace hearth
