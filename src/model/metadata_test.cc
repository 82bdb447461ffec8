#include "model/metadata.h"

#include <gtest/gtest.h>

#include <limits>

#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace hearth {
namespace {

class MetadataTest : public testing::Test {
 protected:
  const Metadata& read() {
    bytes_ = writer_.bytes();
    file_ = *parse_gguf(bytes_);
    return file_.metadata;
  }
  GgufWriter writer_;

 private:
  std::vector<std::byte> bytes_;
  GgufFile file_;
};

TEST_F(MetadataTest, IntegersAreTakenWhereTheyFit) {
  writer_.set("u32", uint32_t{4'000'000'000});
  writer_.set("negative", int32_t{-1});
  writer_.set("huge", std::numeric_limits<uint64_t>::max());
  const Metadata& metadata = read();
  EXPECT_EQ(*metadata.require<uint64_t>("u32"), 4'000'000'000u);
  EXPECT_FALSE(metadata.require<int32_t>("u32").has_value());
  EXPECT_EQ(*metadata.require<int64_t>("negative"), -1);
  EXPECT_FALSE(metadata.require<uint32_t>("negative").has_value());
  EXPECT_FALSE(metadata.require<int64_t>("huge").has_value());
  EXPECT_EQ(*metadata.require<float>("negative"), -1.0f);
}

TEST_F(MetadataTest, ErrorsNameTheKeyAndWhatWasFound) {
  writer_.set("text", "hello");
  writer_.set("fraction", 1.5f);
  writer_.set("out_of_range", 1e300);
  const std::vector<float> floats = {1, 2};
  writer_.set("floats", std::span<const float>(floats));
  const Metadata& metadata = read();
  const auto message = [](const auto& result) { return result.has_value() ? "" : result.error().message; };
  EXPECT_EQ(message(metadata.require<uint32_t>("absent")), "metadata key 'absent' is missing");
  EXPECT_EQ(metadata.require<uint32_t>("absent").error().code, Code::kNotFound);
  EXPECT_EQ(message(metadata.require<uint32_t>("text")),
            "metadata key 'text' is a string, need a non-negative integer below 2^32");
  EXPECT_EQ(message(metadata.require<uint32_t>("fraction")),
            "metadata key 'fraction' is f32 1.5, need a non-negative integer below 2^32");
  EXPECT_EQ(message(metadata.require<std::string>("floats")),
            "metadata key 'floats' is an array of 2 f32, need a string");
  EXPECT_FALSE(metadata.require<float>("out_of_range").has_value());
  EXPECT_FALSE(metadata.require<bool>("text").has_value());
  EXPECT_FALSE(metadata.require<std::vector<uint32_t>>("floats").has_value());
  EXPECT_FALSE(metadata.require<std::vector<std::string>>("floats").has_value());
  EXPECT_FALSE(metadata.require<std::vector<float>>("text").has_value());
}

TEST_F(MetadataTest, DefaultsOnlyStandForMissingKeys) {
  writer_.set("text", "hello");
  const Metadata& metadata = read();
  EXPECT_EQ(*metadata.value_or<uint32_t>("absent", 7), 7u);
  EXPECT_FALSE(metadata.value_or<uint32_t>("text", 7).has_value());
  EXPECT_EQ(metadata.find<uint32_t>("text"), std::nullopt);
  EXPECT_EQ(metadata.find<std::string_view>("text"), "hello");
}

TEST_F(MetadataTest, OneNumberOrOnePerLayer) {
  writer_.set("one", uint32_t{8});
  const std::vector<int32_t> three = {4, 0, 4};
  writer_.set("three", std::span<const int32_t>(three));
  const Metadata& metadata = read();
  EXPECT_EQ(*metadata.require_each<uint32_t>("one", 3), (std::vector<uint32_t>{8, 8, 8}));
  EXPECT_EQ(*metadata.require_each<uint32_t>("three", 3), (std::vector<uint32_t>{4, 0, 4}));
  EXPECT_FALSE(metadata.require_each<uint32_t>("three", 2).has_value());
  EXPECT_FALSE(metadata.require_each<uint32_t>("absent", 2).has_value());
}

}  // namespace
}  // namespace hearth
