// Opening whatever a user names.
#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>

#include "model/gguf_writer.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

class OpenCheckpoint : public testing::Test {
 protected:
  // A safetensors file of F32 rows of four.
  static std::string shard(const std::vector<std::string>& names) {
    std::string header = "{";
    for (size_t i = 0; i < names.size(); ++i) {
      header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[4],"data_offsets":[{},{}]}})", i == 0 ? "" : ",",
                            names[i], 16 * i, 16 * (i + 1));
    }
    header += "}";
    const uint64_t size = header.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(16 * names.size(), '\1');
  }
  void expect_refused(const std::filesystem::path& path, Code code, const std::vector<std::string>& words) {
    const auto opened = open_checkpoint(path);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, code) << opened.error().message;
    for (const std::string& word : words) {
      EXPECT_NE(opened.error().message.find(word), std::string::npos) << opened.error().message << " lacks " << word;
    }
  }
  TestFolder folder_;
};

TEST_F(OpenCheckpoint, GgufByItsMagicWhateverItsName) {
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  const std::vector<float> weights(4, 2.0f);
  const std::array<uint64_t, 1> shape = {4};
  writer.add_tensor("output_norm.weight", Type::kF32, shape, std::as_bytes(std::span(weights)));
  ASSERT_TRUE(writer.write(folder_.path() / "model.bin").has_value());
  const auto opened = open_checkpoint(folder_.path() / "model.bin");
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->kind(), Checkpoint::Kind::kGguf);
  EXPECT_EQ(opened->file_bytes(), writer.bytes().size());
  const TensorRef* tensor = opened->find_tensor("output_norm.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(std::memcmp(tensor->data.data(), weights.data(), 16), 0);
}

// The view must not point into something that moved away.
TEST_F(OpenCheckpoint, TensorsSurviveAMove) {
  folder_.write("config.json", R"({"model_type":"llama"})");
  folder_.write("model.safetensors", shard({"a"}));
  auto opened = open_checkpoint(folder_.path());
  ASSERT_TRUE(opened.has_value());
  const Checkpoint moved = std::move(*opened);
  EXPECT_EQ(moved.find_tensor("a")->data[15], std::byte{1});
}

TEST_F(OpenCheckpoint, HuggingFaceFolder) {
  folder_.write("config.json", R"({"model_type":"llama","hidden_size":64})");
  folder_.write("model.safetensors", shard({"model.norm.weight", "lm_head.weight"}));
  const auto opened = open_checkpoint(folder_.path());
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->kind(), Checkpoint::Kind::kHuggingFace);
  EXPECT_EQ(opened->config().at("hidden_size").as_int64(), 64);
  EXPECT_NE(opened->find_tensor("lm_head.weight"), nullptr);
}

TEST_F(OpenCheckpoint, HuggingFaceFolderInShards) {
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors.index.json",
                R"({"weight_map":{"a":"s-1.safetensors","b":"s-2.safetensors","c":"s-1.safetensors"}})");
  folder_.write("s-1.safetensors", shard({"a", "c"}));
  folder_.write("s-2.safetensors", shard({"b"}));
  const auto opened = open_checkpoint(folder_.path());
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_EQ(opened->tensors().size(), 3u);
  EXPECT_EQ(opened->files().size(), 2u);
}

TEST_F(OpenCheckpoint, G8_ShardsThatDisagreeWithTheIndex) {
  folder_.write("config.json", "{}");
  folder_.write("s.safetensors", shard({"a"}));
  folder_.write("model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors","b":"s.safetensors"}})");
  expect_refused(folder_.path(), Code::kMalformed, {"s.safetensors", "1 of the 2"});
  folder_.write("model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  expect_refused(folder_.path(), Code::kNotFound, {"gone.safetensors"});
  folder_.write("model.safetensors.index.json", R"({})");
  expect_refused(folder_.path(), Code::kMalformed, {"weight_map"});
}

// An index is a file from outside: its names may not lead out of the folder.
TEST_F(OpenCheckpoint, IndexNamesStayInTheFolder) {
  folder_.write("config.json", "{}");
  for (const std::string name : {"../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", ".x.safetensors", "x.bin",
                                 "x\\\\y.safetensors", "x\\u0000y.safetensors"}) {
    folder_.write("model.safetensors.index.json", R"({"weight_map":{"a":")" + name + R"("}})");
    expect_refused(folder_.path(), Code::kMalformed, {"'a'"});
  }
}

TEST_F(OpenCheckpoint, OtherThingsSayWhatWasFoundAndExpected) {
  folder_.write("model.bin", "PK\x03\x04 and more");
  expect_refused(folder_.path() / "model.bin", Code::kUnsupported, {"zip archive", "expected a GGUF file"});
  folder_.write("model.pt", "\x80\x02}q");
  expect_refused(folder_.path() / "model.pt", Code::kUnsupported, {"pickle"});
  folder_.write("model.gguf", "version https://git-lfs");
  expect_refused(folder_.path() / "model.gguf", Code::kUnsupported, {"Git LFS"});
  folder_.write("model.gguf", "");
  expect_refused(folder_.path() / "model.gguf", Code::kUnsupported, {"empty file"});
  folder_.write("model.gguf", "GGU");
  expect_refused(folder_.path() / "model.gguf", Code::kUnsupported, {"unknown kind"});
  folder_.write("model.gguf", "GGUF");  // CVE-2024-39720
  expect_refused(folder_.path() / "model.gguf", Code::kMalformed, {"cut off", "model.gguf"});
  expect_refused(folder_.path() / "absent.gguf", Code::kNotFound, {"absent.gguf"});
  expect_refused(folder_.path(), Code::kUnsupported, {"no config.json", "model.bin"});
  folder_.write("config.json", "{}");
  expect_refused(folder_.path(), Code::kUnsupported, {"model.safetensors", "model.bin", "pickles"});
  folder_.write("config.json", "[]");
  expect_refused(folder_.path(), Code::kMalformed, {"config.json"});
}

}  // namespace
}  // namespace hearth
