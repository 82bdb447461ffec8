// Models in several GGUF files.
#include <gtest/gtest.h>

#include <fstream>

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

class GgufSplit : public testing::Test {
 protected:
  struct Part {
    uint16_t number, count;
    int32_t n_tensors = 3;
    std::string tensor;
    std::string architecture = {};
  };
  void write(const std::string& name, const Part& part) {
    GgufWriter writer;
    if (!part.architecture.empty()) writer.set("general.architecture", part.architecture);
    writer.set("split.no", part.number);
    writer.set("split.count", part.count);
    writer.set("split.tensors.count", part.n_tensors);
    const std::array<uint64_t, 1> shape = {8};
    writer.add_tensor(part.tensor, Type::kF32, shape, std::as_bytes(std::span(weights_)));
    ASSERT_TRUE(writer.write(folder_.path() / name).has_value());
  }
  void write_three() {
    write("m-00001-of-00003.gguf", {.number = 0, .count = 3, .tensor = "a", .architecture = "llama"});
    write("m-00002-of-00003.gguf", {.number = 1, .count = 3, .tensor = "b"});
    write("m-00003-of-00003.gguf", {.number = 2, .count = 3, .tensor = "c"});
  }
  Result<Checkpoint> open(const std::string& name = "m-00001-of-00003.gguf") {
    return open_checkpoint(folder_.path() / name);
  }
  void expect_refused(const std::vector<std::string>& words) {
    const auto opened = open();
    ASSERT_FALSE(opened.has_value());
    for (const std::string& word : words) {
      EXPECT_NE(opened.error().message.find(word), std::string::npos) << opened.error().message << " lacks " << word;
    }
  }
  TestFolder folder_;
  std::vector<float> weights_ = std::vector<float>(8, 1.0f);
};

TEST_F(GgufSplit, PartsBesideTheFirstAreFound) {
  write_three();
  const auto checkpoint = open();
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->tensors().size(), 3u);
  EXPECT_EQ(checkpoint->files().size(), 3u);
  ASSERT_NE(checkpoint->find_tensor("c"), nullptr);
  EXPECT_EQ(checkpoint->find_tensor("d"), nullptr);
  EXPECT_EQ(*checkpoint->metadata().require<std::string>("general.architecture"), "llama");
}

TEST_F(GgufSplit, G8_MissingPartIsNamed) {
  write_three();
  std::filesystem::remove(folder_.path() / "m-00002-of-00003.gguf");
  expect_refused({"part 2 of 3", "m-00002-of-00003.gguf"});
}

TEST_F(GgufSplit, G8_DisagreeingPartsAreRefused) {
  write_three();
  write("m-00002-of-00003.gguf", {.number = 2, .count = 3, .tensor = "b"});
  expect_refused({"m-00002-of-00003.gguf", "split.no is 2"});
  write("m-00002-of-00003.gguf", {.number = 1, .count = 4, .tensor = "b"});
  expect_refused({"m-00002-of-00003.gguf", "split.count is 4"});
  write("m-00002-of-00003.gguf", {.number = 1, .count = 3, .tensor = "a"});
  expect_refused({"tensor 'a' comes twice"});
  write("m-00002-of-00003.gguf", {.number = 1, .count = 3, .tensor = "b", .architecture = "qwen2"});
  expect_refused({"'qwen2' is not the first file's"});
  write_three();
  write("m-00001-of-00003.gguf", {.number = 0, .count = 3, .n_tensors = 4, .tensor = "a", .architecture = "llama"});
  expect_refused({"split.tensors.count is 4", "3"});
}

TEST_F(GgufSplit, LaterPartsAndOtherNamesSayWhatToOpen) {
  write_three();
  const auto second = open("m-00002-of-00003.gguf");
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find("-00001-of-00003.gguf"), std::string::npos) << second.error().message;
  std::filesystem::rename(folder_.path() / "m-00001-of-00003.gguf", folder_.path() / "model.gguf");
  const auto renamed = open("model.gguf");
  ASSERT_FALSE(renamed.has_value());
  EXPECT_NE(renamed.error().message.find("-00001-of-00003.gguf"), std::string::npos) << renamed.error().message;
}

TEST_F(GgufSplit, BrokenPartIsNamed) {
  write_three();
  std::ofstream(folder_.path() / "m-00003-of-00003.gguf", std::ios::trunc) << "GGUF";
  expect_refused({"m-00003-of-00003.gguf", "cut off"});
}

}  // namespace
}  // namespace hearth
