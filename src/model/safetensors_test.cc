#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace hearth {
namespace {

std::vector<std::byte> file_of(std::string_view header, size_t data_bytes, int64_t claimed_bytes = -1) {
  const uint64_t header_bytes = claimed_bytes < 0 ? header.size() : static_cast<uint64_t>(claimed_bytes);
  std::vector<std::byte> out(8 + header.size() + data_bytes);
  std::memcpy(out.data(), &header_bytes, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) out[8 + header.size() + i] = static_cast<std::byte>(i);
  return out;
}

void expect_refused(std::string_view header, size_t data_bytes, Code code, std::string_view word) {
  const auto parsed = parse_safetensors(file_of(header, data_bytes));
  ASSERT_FALSE(parsed.has_value()) << header;
  EXPECT_EQ(parsed.error().code, code) << parsed.error().message;
  EXPECT_NE(parsed.error().message.find(word), std::string::npos) << parsed.error().message << " lacks " << word;
}

constexpr std::string_view kGood = R"({"__metadata__":{"format":"pt"},)"
                                   R"("b":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},)"
                                   R"("a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}})";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const auto bytes = file_of(kGood, 32);
  const auto tensors = parse_safetensors(bytes);
  ASSERT_TRUE(tensors.has_value()) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[0].type, Type::kBF16);
  const TensorRef& matrix = (*tensors)[1];
  EXPECT_EQ(matrix.type, Type::kF32);
  EXPECT_EQ(matrix.row_length(), 3u);  // the last size of the list is the row length
  EXPECT_EQ(matrix.rows(), 2u);
  EXPECT_EQ(matrix.n_dims, 2);
  EXPECT_EQ(matrix.data.size(), 24u);
  EXPECT_EQ(matrix.data[0], std::byte{8});
}

TEST(Safetensors, LoneNumbersAreRowsOfOne) {
  const auto tensors = parse_safetensors(file_of(R"({"x":{"dtype":"F16","shape":[],"data_offsets":[0,2]}})", 2));
  ASSERT_TRUE(tensors.has_value());
  EXPECT_EQ((*tensors)[0].elements(), 1u);
}

TEST(Safetensors, G4_HeaderLongerThanTheFile) {
  for (const int64_t claimed : {int64_t{1000}, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
    const auto parsed = parse_safetensors(file_of("{}", 0, claimed));
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().code, Code::kMalformed);
  }
}

TEST(Safetensors, G1_ShapesThatOverflow) {
  expect_refused(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, Code::kLimit,
                 "'x'");
  expect_refused(R"({"x":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4, Code::kLimit,
                 "'x'");
  expect_refused(R"({"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0, Code::kMalformed, "dimension of 0");
  expect_refused(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, Code::kMalformed, "natural number");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, Code::kMalformed, "natural number");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4, Code::kUnsupported,
                 "5 dimensions");
}

TEST(Safetensors, G8_OffsetsOutOfRangeOrOverlapping) {
  expect_refused(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, Code::kMalformed, "ends at 8");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, Code::kMalformed, "begins at 4");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8, Code::kMalformed, "4 bytes follow");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8, Code::kMalformed, "no range");
  expect_refused(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, Code::kMalformed, "needs 8");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],)"
                 R"("data_offsets":[0,4]}})",
                 4, Code::kMalformed, "begins at 0");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]}})", 4,
                 Code::kMalformed, "'x'");
}

TEST(Safetensors, G7_OtherDtypesAreNamed) {
  for (const std::string dtype : {"I64", "F8_E4M3", "U8", "BOOL", "F64", ""}) {
    expect_refused(R"({"model.x":{"dtype":")" + dtype + R"(","shape":[1],"data_offsets":[0,8]}})", 8,
                   Code::kUnsupported, "'model.x': has dtype " + dtype);
  }
}

TEST(Safetensors, HeadersThatAreNoDescription) {
  expect_refused("[]", 0, Code::kMalformed, "no JSON object");
  expect_refused("{", 0, Code::kMalformed, "JSON");
  expect_refused(R"({"x":1})", 0, Code::kMalformed, "'x'");
  expect_refused(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4, Code::kMalformed, "no dtype");
  expect_refused(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4, Code::kMalformed, "no shape");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1]}})", 4, Code::kMalformed, "data_offsets");
  expect_refused(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, Code::kMalformed, "data_offsets");
  expect_refused(R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, Code::kMalformed, "name");
  expect_refused(std::string(100'000, '['), 0, Code::kLimit, "deeper");
}

TEST(Safetensors, G9_TruncatedAtEveryByteAndFlippedBits) {
  const auto bytes = file_of(kGood, 32);
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    ASSERT_FALSE(parse_safetensors(cut).has_value()) << size;
  }
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    (void)parse_safetensors(flipped);
  }
}

}  // namespace
}  // namespace hearth
