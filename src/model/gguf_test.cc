#include "model/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "base/limits.h"
#include "model/gguf_writer.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

// A GGUF file put together number by number, so that it can be wrong in one place.
class RawGguf {
 public:
  template <typename T>
  RawGguf& number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
    return *this;
  }
  RawGguf& text(std::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  RawGguf& string(std::string_view value) { return number<uint64_t>(value.size()).text(value); }
  RawGguf& header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
    return text("GGUF").number(version).number(n_tensors).number(n_keys);
  }
  RawGguf& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
    string(name).number(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) number(size);
    return number(type).number(offset);
  }
  RawGguf& data(size_t size, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    bytes_.resize(bytes_.size() + size);
    return *this;
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

constexpr uint32_t kU32 = 4, kI32 = 5, kBool = 7, kString = 8, kArray = 9;

// The file is refused with this code, and the message has each of the words.
void expect_refused(const RawGguf& file, Code code, const std::vector<std::string>& words) {
  const auto parsed = parse_gguf(file.bytes());
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().code, code) << parsed.error().message;
  for (const std::string& word : words) {
    EXPECT_NE(parsed.error().message.find(word), std::string::npos) << parsed.error().message << " lacks " << word;
  }
}

struct Sample {
  std::vector<float> weights = std::vector<float>(96, 0.5f);
  std::vector<std::byte> codes = std::vector<std::byte>(2 * 18, std::byte{7});
  [[nodiscard]] std::vector<std::byte> bytes() const {
    GgufWriter writer;
    writer.set("general.architecture", "llama");
    writer.set("llama.block_count", uint32_t{2});
    writer.set("llama.rope.freq_base", 10000.0f);
    writer.set("flag", true);
    writer.set("small", uint16_t{9});
    writer.set("big", uint64_t{1} << 40);
    writer.set("negative", int64_t{-5});
    writer.set("double", 0.25);
    const std::vector<std::string> words = {"a", "", "ccc"};
    writer.set("words", std::span<const std::string>(words));
    const std::vector<int32_t> numbers = {3, -1};
    writer.set("numbers", std::span<const int32_t>(numbers));
    const std::array<uint64_t, 2> shape = {32, 3};
    writer.add_tensor("weights", Type::kF32, shape, std::as_bytes(std::span(weights)));
    const std::array<uint64_t, 1> row = {64};
    writer.add_tensor("codes", Type::kQ4_0, row, codes);
    return writer.bytes();
  }
};

TEST(Gguf, WhatIsWrittenIsRead) {
  const Sample sample;
  const auto bytes = sample.bytes();
  const auto file = parse_gguf(bytes);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->version, 3u);
  EXPECT_EQ(*file->metadata.require<std::string>("general.architecture"), "llama");
  EXPECT_EQ(*file->metadata.require<int32_t>("llama.block_count"), 2);
  EXPECT_EQ(*file->metadata.require<float>("llama.rope.freq_base"), 10000.0f);
  EXPECT_TRUE(*file->metadata.require<bool>("flag"));
  EXPECT_EQ(*file->metadata.require<uint32_t>("small"), 9u);
  EXPECT_EQ(*file->metadata.require<uint64_t>("big"), uint64_t{1} << 40);
  EXPECT_EQ(*file->metadata.require<int32_t>("negative"), -5);
  EXPECT_EQ(*file->metadata.require<float>("double"), 0.25f);
  EXPECT_EQ(*file->metadata.require<std::vector<std::string>>("words"), (std::vector<std::string>{"a", "", "ccc"}));
  EXPECT_EQ(*file->metadata.require<std::vector<int64_t>>("numbers"), (std::vector<int64_t>{3, -1}));
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].name, "weights");
  EXPECT_EQ(shape_text(file->tensors[0]), "[32, 3]");
  EXPECT_EQ(file->tensors[0].rows(), 3u);
  EXPECT_TRUE(std::ranges::equal(file->tensors[0].data, std::as_bytes(std::span(sample.weights))));
  EXPECT_EQ(file->tensors[1].type, Type::kQ4_0);
  EXPECT_EQ(file->tensors[1].data.size(), 36u);
}

// A file that only this program could read must not be called a GGUF.
TEST(Gguf, TypesOfOurOwnAreNotWritten) {
  const TestFolder folder;
  const std::vector<std::byte> row(*row_bytes(info(Type::kI4), 32));
  GgufWriter writer;
  writer.add_tensor("blk.0.x", Type::kI4, std::array<uint64_t, 1>{32}, row);
  const auto written = writer.write(folder.path() / "x.gguf");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Code::kUnsupported);
  EXPECT_NE(written.error().message.find("'blk.0.x' is I4"), std::string::npos) << written.error().message;
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "x.gguf"));
}

TEST(Gguf, CopiedKeysStayTheSame) {
  const Sample sample;
  const auto bytes = sample.bytes();
  const auto file = parse_gguf(bytes);
  GgufWriter writer;
  for (const MetadataEntry& entry : file->metadata.entries()) writer.set(entry.key, entry.value);
  for (const TensorRef& tensor : file->tensors) {
    writer.add_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.n_dims)),
                      tensor.data);
  }
  EXPECT_EQ(writer.bytes(), bytes);
}

TEST(Gguf, ReadsVersion2) {
  RawGguf file;
  file.header(1, 1, 2).string("k").number(kU32).number(7u).tensor("t", {4}, 0, 0).data(16);
  const auto parsed = parse_gguf(file.bytes());
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(parsed->version, 2u);
}

TEST(Gguf, OtherVersionsAreNamed) {
  expect_refused(RawGguf().header(0, 0, 1), Code::kUnsupported, {"version 1"});
  expect_refused(RawGguf().header(0, 0, 4), Code::kUnsupported, {"version 4"});
  expect_refused(RawGguf().header(0, 0, 0), Code::kUnsupported, {"version 0"});
  expect_refused(RawGguf().header(0, 0, 0x03000000), Code::kUnsupported, {"version 3", "big-endian"});
}

// CVE-2024-21802, CVE-2026-33298 and their kin: a product of dimensions that wraps made a small buffer for many
// weights.
TEST(Gguf, G1_DimensionProductOverflow) {
  const uint64_t huge = uint64_t{1} << 62;
  const auto max = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  for (const std::vector<uint64_t>& shape : std::vector<std::vector<uint64_t>>{{huge, 4},
                                                                               {uint64_t{1} << 32, uint64_t{1} << 32},
                                                                               {max, 2},
                                                                               {max, max, max, max},
                                                                               {~uint64_t{0}},
                                                                               {~uint64_t{0}, ~uint64_t{0}},
                                                                               {uint64_t{1} << 41}}) {
    expect_refused(RawGguf().header(1, 0).tensor("blk.0.huge", shape, 0, 0).data(64), Code::kLimit, {"blk.0.huge"});
  }
}

// CVE-2025-53630, CVE-2026-27940: offset, size and padding added up past 2^64.
TEST(Gguf, G2_OffsetPlusSizeOverflow) {
  for (const uint64_t offset : {~uint64_t{31}, ~uint64_t{0} - 63, uint64_t{1} << 63}) {
    expect_refused(RawGguf().header(1, 0).tensor("t", {16}, 0, offset).data(64), Code::kMalformed,
                   {"'t'", "ends beyond"});
  }
}

TEST(Gguf, G3_CountsNearTheTypeLimit) {
  for (const uint64_t count :
       {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 60, uint64_t{1} << 32, limits::kTensors + 1}) {
    expect_refused(RawGguf().header(count, 0).data(64), Code::kLimit, {"tensors"});
    expect_refused(RawGguf().header(0, count).data(64), Code::kLimit, {"metadata keys"});
  }
  // Within the limits, but more than the file could hold: refused before anything is reserved for them.
  expect_refused(RawGguf().header(limits::kTensors, 0).data(64), Code::kMalformed, {"claims"});
  expect_refused(RawGguf().header(0, limits::kMetadataKeys).data(64), Code::kMalformed, {"claims"});
}

TEST(Gguf, G4_LengthsBeyondTheFile) {
  for (const uint64_t size : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{200}}) {
    RawGguf key, value, array, strings, name;
    key.header(0, 1).number(size).data(64);
    expect_refused(key, Code::kMalformed, {"key"});
    value.header(0, 1).string("k").number(kString).number(size).data(64);
    expect_refused(value, Code::kMalformed, {"'k'", "claims"});
    array.header(0, 1).string("k").number(kArray).number(kU32).number(size).data(64);
    expect_refused(array, Code::kMalformed, {"'k'", "claims"});
    strings.header(0, 1).string("k").number(kArray).number(kString).number(size).data(64);
    expect_refused(strings, Code::kMalformed, {"'k'", "claims"});
    name.header(1, 0).number(size).data(64);
    expect_refused(name, Code::kMalformed, {"tensor name"});
  }
}

TEST(Gguf, G4_LongKeysAndNamesAreLimits) {
  expect_refused(RawGguf().header(0, 1).string(std::string(limits::kMetadataKeyBytes + 1, 'k')).number(kU32).number(0u),
                 Code::kLimit, {"metadata key"});
  expect_refused(RawGguf().header(1, 0).tensor(std::string(limits::kTensorNameBytes + 1, 't'), {1}, 0, 0).data(4),
                 Code::kLimit, {"tensor name"});
}

// A quarter of a million strings must not cost a seek each: this ran for minutes in llama.cpp issue 19856's first fix.
TEST(Gguf, G4_ManyStringsAreReadAtOnce) {
  std::vector<std::string> words(262'144, "token");
  GgufWriter writer;
  writer.set("words", std::span<const std::string>(words));
  const auto bytes = writer.bytes();
  const auto parsed = parse_gguf(bytes);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->metadata.find_value("words")->strings.size(), words.size());
}

TEST(Gguf, G5_ZeroDimensionsAndEmptyNames) {
  expect_refused(RawGguf().header(1, 0).tensor("t", {0}, 0, 0).data(64), Code::kMalformed, {"'t'", "dimension of 0"});
  expect_refused(RawGguf().header(1, 0).tensor("t", {32, 0, 2}, 2, 0).data(64), Code::kMalformed, {"dimension of 0"});
  expect_refused(RawGguf().header(1, 0).tensor("t", {}, 0, 0).data(64), Code::kUnsupported, {"'t'", "0 dimensions"});
  expect_refused(RawGguf().header(0, 1).string("").number(kU32).number(0u).data(8), Code::kMalformed, {"empty"});
  expect_refused(RawGguf().header(1, 0).tensor("", {1}, 0, 0).data(64), Code::kMalformed, {"empty"});
}

TEST(Gguf, G6_AlignmentThatIsNoPowerOfTwo) {
  for (const uint32_t alignment : {0u, 1u, 4u, 3u, 33u, 48u, 0x80000001u, 0xffffffffu, 1u << 31}) {
    expect_refused(RawGguf().header(0, 1).string("general.alignment").number(kU32).number(alignment).data(64),
                   Code::kMalformed, {"general.alignment", std::to_string(alignment)});
  }
  expect_refused(RawGguf().header(0, 1).string("general.alignment").number(kString).string("32").data(64),
                 Code::kMalformed, {"general.alignment", "string"});
  expect_refused(RawGguf().header(0, 1).string("general.alignment").number(kI32).number(32).data(64), Code::kMalformed,
                 {"general.alignment", "i32"});
  RawGguf good;
  good.header(1, 1).string("general.alignment").number(kU32).number(64u).tensor("t", {4}, 0, 64).data(80, 64);
  EXPECT_TRUE(parse_gguf(good.bytes()).has_value());
}

TEST(Gguf, G7_TypesOutOfRange) {
  for (const uint32_t type : {4u, 5u, 9u, 16u, 19u, 24u, 36u, 40u, 41u, 255u, 256u, 1000u, 1005u, 65536u, 0x7fffffffu,
                              0x80000000u, 0xfffffffeu, 0xffffffffu}) {
    expect_refused(RawGguf().header(1, 0).tensor("blk.1.x", {256}, type, 0).data(4096), Code::kUnsupported,
                   {"blk.1.x", "type " + std::to_string(type)});
  }
  expect_refused(RawGguf().header(1, 0).tensor("t", {256}, 16, 0).data(4096), Code::kUnsupported, {"IQ2_XXS"});
  for (const uint32_t type : {13u, 14u, 255u, 0x80000000u, 0xffffffffu}) {
    expect_refused(RawGguf().header(0, 1).string("k").number(type).data(64), Code::kUnsupported,
                   {"'k'", std::to_string(type)});
    expect_refused(RawGguf().header(0, 1).string("k").number(kArray).number(type).number<uint64_t>(1).data(64),
                   Code::kUnsupported, {"'k'", std::to_string(type)});
  }
  expect_refused(RawGguf().header(0, 1).string("k").number(kArray).number(kArray).number<uint64_t>(1).data(64),
                 Code::kUnsupported, {"'k'", "array of arrays"});
}

TEST(Gguf, G8_TensorsOutsideTheFileOrOverlapping) {
  expect_refused(RawGguf().header(1, 0).tensor("t", {32}, 0, 0).data(127), Code::kMalformed, {"'t'", "ends beyond"});
  expect_refused(RawGguf().header(1, 0).tensor("t", {8}, 0, 128).data(128), Code::kMalformed, {"'t'", "ends beyond"});
  expect_refused(RawGguf().header(1, 0).tensor("t", {8}, 0, 16).data(128), Code::kMalformed, {"'t'", "aligned"});
  expect_refused(RawGguf().header(2, 0).tensor("a", {16}, 0, 0).tensor("b", {8}, 0, 32).data(128), Code::kMalformed,
                 {"'a'", "'b'", "overlap"});
  expect_refused(RawGguf().header(2, 0).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 0).data(128), Code::kMalformed,
                 {"overlap"});
  RawGguf reversed;  // any order is fine
  reversed.header(2, 0).tensor("b", {8}, 0, 32).tensor("a", {8}, 0, 0).data(64);
  EXPECT_TRUE(parse_gguf(reversed.bytes()).has_value());
}

TEST(Gguf, RowsMustBeWholeBlocks) {
  expect_refused(RawGguf().header(1, 0).tensor("t", {33}, 2, 0).data(64), Code::kMalformed, {"'t'", "33", "Q4_0"});
  expect_refused(RawGguf().header(1, 0).tensor("t", {128, 2}, 12, 0).data(288), Code::kMalformed, {"'t'", "Q4_K"});
}

TEST(Gguf, KeysAndDimensionsThatMakeNoSense) {
  expect_refused(RawGguf().header(1, 0).tensor("t", {1, 1, 1, 1, 1}, 0, 0).data(64), Code::kUnsupported,
                 {"'t'", "5 dimensions"});
  expect_refused(
      RawGguf().header(0, 2).string("twice").number(kU32).number(1u).string("twice").number(kU32).number(2u).data(0),
      Code::kMalformed, {"'twice'", "twice"});
  expect_refused(RawGguf().header(0, 1).string("flag").number(kBool).number<uint8_t>(2).data(64), Code::kMalformed,
                 {"'flag'", "bool"});
  expect_refused(RawGguf().header(0, 1).string("line\nbreak").number(kU32).number(1u).data(64), Code::kMalformed,
                 {"control characters"});
}

// CVE-2024-39720: a file of 4 bytes.
TEST(Gguf, G9_TruncatedAtEveryByte) {
  const auto bytes = Sample().bytes();
  ASSERT_TRUE(parse_gguf(bytes).has_value());
  // Behind the last tensor there is only padding, which a file may lack.
  const auto whole = parse_gguf(bytes);
  const auto end = static_cast<size_t>(whole->tensors[1].data.data() + whole->tensors[1].data.size() - bytes.data());
  for (size_t size = 0; size < end; ++size) {
    const std::vector<std::byte> cut(bytes.begin(),
                                     bytes.begin() + static_cast<ptrdiff_t>(size));  // its own allocation
    const auto parsed = parse_gguf(cut);
    ASSERT_FALSE(parsed.has_value()) << size;
    ASSERT_FALSE(parsed.error().message.empty());
  }
}

TEST(Gguf, G9_FlippedBitsNeverCrash) {
  const auto bytes = Sample().bytes();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    const auto parsed = parse_gguf(flipped);
    if (!parsed) continue;
    for (const TensorRef& tensor : parsed->tensors) {
      std::vector<float> row(tensor.row_length());
      info(tensor.type).decode(tensor.data.data(), row.data(), static_cast<int64_t>(row.size()));
    }
  }
}

TEST(Gguf, G9_RandomDamageNeverCrashes) {
  const auto bytes = Sample().bytes();
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    auto damaged = bytes;
    for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    damaged.resize(damaged.size() - random() % 64);
    (void)parse_gguf(damaged);
  }
}

}  // namespace
}  // namespace hearth
