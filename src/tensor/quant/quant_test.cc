// What every type of the registry promises.
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "tensor/element.h"
#include "tensor/test_rows.h"
#include "tensor/type.h"

namespace hearth {
namespace {

class QuantType : public testing::TestWithParam<const TypeInfo*> {
 protected:
  const TypeInfo& type_ = *GetParam();
};

std::vector<float> round_trip(const TypeInfo& type, const std::vector<float>& x) {
  std::vector<std::byte> blocks(*row_bytes(type, x.size()));
  type.encode(x.data(), blocks.data(), static_cast<int64_t>(x.size()));
  std::vector<float> out(x.size());
  type.decode(blocks.data(), out.data(), static_cast<int64_t>(x.size()));
  return out;
}

// Root mean square error of normally distributed values, as a share of their deviation, that a sound encoder keeps.
double error_bound(const TypeInfo& type) {
  if (type.panel.has_low) return 0.011;
  switch (type.panel.bits) {
    case 2:
      return 0.36;
    case 3:
      return 0.19;
    case 4:
      return type.type == Type::kMXFP4 ? 0.14 : 0.1;
    case 5:
      return 0.05;
    case 6:
      return 0.025;
    case 8:
      return 0.008;
    case 16:
      return 0.003;
    default:
      return 0;
  }
}

TEST_P(QuantType, EncodedValuesStayNear) {
  for (const float deviation : {1.0f, 0.02f, 30.0f}) {
    const auto x = random_floats(2048, 7, deviation);
    const auto y = round_trip(type_, x);
    double error = 0;
    for (size_t i = 0; i < x.size(); ++i) error += std::pow(static_cast<double>(x[i] - y[i]) / deviation, 2);
    EXPECT_LE(std::sqrt(error / static_cast<double>(x.size())), error_bound(type_)) << deviation;
  }
}

TEST_P(QuantType, ZerosStayZeroAndConstantsStayNear) {
  for (const float y : round_trip(type_, std::vector<float>(256, 0.0f))) ASSERT_EQ(y, 0.0f);
  for (const float constant : {0.75f, -0.75f}) {
    for (const float y : round_trip(type_, std::vector<float>(256, constant))) ASSERT_NEAR(y, constant, 0.26);
  }
}

// A broken checkpoint may hold anything; the encoder must not trap or write outside.
TEST_P(QuantType, EncodesWhatIsNotFinite) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {inf, -inf, nan, 3e38f, -3e38f, 1e-45f}) {
    auto x = random_floats(512, 3);
    x[5] = bad;
    x[300] = -bad;
    round_trip(type_, x);
    round_trip(type_, std::vector<float>(256, bad));
  }
}

TEST_P(QuantType, SplitRowsHaveTheValuesOfDecode) {
  if (type_.split == nullptr) {
    EXPECT_TRUE(type_.panel.is_float());
    return;
  }
  constexpr int64_t kLength = 1024;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    auto row = random_rows(type_, 1, kLength, seed);
    if (seed < 2) std::fill(row.begin(), row.end(), seed == 0 ? std::byte{0} : std::byte{255});
    std::vector<float> expected(kLength);
    type_.decode(row.data(), expected.data(), kLength);
    RowCodes codes;
    type_.split(row.data(), kLength, codes);
    for (int64_t i = 0; i < kLength; ++i) {
      const float value = panel_value(type_.panel, codes, i);
      ASSERT_TRUE(same_bits_or_both_nan(value, expected[static_cast<size_t>(i)])) << i << ": " << value;
    }
  }
}

// What chooses codes by itself writes them with join(); nothing of a block may get lost.
TEST_P(QuantType, JoinedRowsAreTheBlocksThatWereSplit) {
  if (type_.split == nullptr) return;
  constexpr int64_t kLength = 1024;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const auto row = random_rows(type_, 1, kLength, seed);
    RowCodes codes;
    type_.split(row.data(), kLength, codes);
    std::vector<std::byte> again(row.size());
    type_.join(codes, kLength, again.data());
    ASSERT_EQ(again, row);
  }
}

// A row's last stretch under one scale may be shorter than the others, or the only one.
TEST_P(QuantType, RowsOfAnyNumberOfBlocks) {
  if (!is_own(type_.type)) return;
  for (const int64_t n : {32, 224, 288, 576, 640, 896}) {
    const auto x = random_floats(n, static_cast<uint32_t>(n));
    std::vector<std::byte> row(*row_bytes(type_, x.size()) + 8, std::byte{0xa5});  // what lies behind may not change
    type_.encode(x.data(), row.data(), n);
    for (size_t i = row.size() - 8; i < row.size(); ++i) ASSERT_EQ(row[i], std::byte{0xa5});
    row.resize(row.size() - 8);
    std::vector<float> y(x.size());
    type_.decode(row.data(), y.data(), n);
    RowCodes codes;
    type_.split(row.data(), n, codes);
    std::vector<std::byte> again(row.size());
    type_.join(codes, n, again.data());
    EXPECT_EQ(again, row);
    double error = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      ASSERT_EQ(panel_value(type_.panel, codes, i), y[at]);
      error += std::pow(static_cast<double>(x[at] - y[at]), 2);
    }
    EXPECT_LE(std::sqrt(error / static_cast<double>(n)), 1.4 * error_bound(type_)) << n;
  }
}

// Error feedback moves high codes off the nearest: one step to either side, the low code makes up for.
TEST(Nested, TheLowCodeReachesTheNextHighCodes) {
  const PanelFormat& format = info(Type::kI8).panel;
  for (int high = 1; high < 15; ++high) {
    const int middle = 8 * high - 60;  // of 4 * (2 * high - 15): what the high code means
    EXPECT_EQ(element_integer(format, static_cast<uint8_t>(high << 4 | 8)), middle);
    EXPECT_EQ(element_integer(format.high(), static_cast<uint8_t>(high)) * 4, middle);
    EXPECT_EQ(element_integer(format, static_cast<uint8_t>(high << 4)), middle - 8);
    EXPECT_EQ(element_integer(format, static_cast<uint8_t>(high << 4 | 15)), middle + 7);
  }
  EXPECT_EQ(element_scale(format, 5, 0x3c00) * 4, element_scale(format.high(), 5, 0x3c00));
}

// Quantising a model that was quantised before must not ruin it.
TEST_P(QuantType, EncodingDecodedValuesKeepsThem) {
  const auto x = random_floats(1024, 11);
  const auto once = round_trip(type_, x);
  const auto twice = round_trip(type_, once);
  double error = 0;
  for (size_t i = 0; i < once.size(); ++i) error = std::max(error, static_cast<double>(std::abs(once[i] - twice[i])));
  EXPECT_LE(error, type_.panel.is_float() ? 0 : 2 * error_bound(type_)) << "a second encoding moved values far";
}

std::vector<const TypeInfo*> every_type() {
  std::vector<const TypeInfo*> out;
  for (const TypeInfo& type : all_types()) out.push_back(&type);
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, QuantType, testing::ValuesIn(every_type()),
                         [](const auto& tested) { return std::string(tested.param->name); });

TEST(TypeRegistry, IsInTheOrderOfIdsWithoutDoubles) {
  std::set<uint32_t> ids;
  uint32_t last = 0;
  for (const TypeInfo& type : all_types()) {
    const auto id = static_cast<uint32_t>(type.type);
    EXPECT_TRUE(ids.insert(id).second) << type.name;
    EXPECT_GE(id, last);
    last = id;
    EXPECT_EQ(find_type(id), &type);
    EXPECT_EQ(find_type(type.name), &type);
    EXPECT_EQ(&info(type.type), &type);
  }
  EXPECT_EQ(ids.size(), 22u);
}

// CVE-2024-42477 and llama.cpp issue 13067: an id from a file indexed a table.
TEST(TypeRegistry, G7_UnknownIdsFindNothing) {
  for (const uint32_t id : {4u, 5u, 9u, 15u, 16u, 22u, 24u, 29u, 31u, 38u, 40u, 255u, 999u, 1006u, 65536u, 0x7fffffffu,
                            0x80000000u, 0xffffffffu}) {
    EXPECT_EQ(find_type(id), nullptr) << id;
  }
  EXPECT_EQ(find_type("q4_k"), find_type("Q4_K"));
  EXPECT_EQ(find_type(""), nullptr);
  EXPECT_EQ(find_type("Q4_K_M"), nullptr);
}

TEST(TypeRegistry, RowBytesRefusesPartsOfBlocksAndOverflow) {
  EXPECT_EQ(row_bytes(info(Type::kQ4_0), 64), 36u);
  EXPECT_EQ(row_bytes(info(Type::kQ4_0), 33), std::nullopt);
  EXPECT_EQ(row_bytes(info(Type::kQ6_K), 512), 420u);
  EXPECT_EQ(row_bytes(info(Type::kF32), 1ull << 62), std::nullopt);
  EXPECT_EQ(row_bytes(info(Type::kF32), 0), 0u);
  EXPECT_EQ(row_bytes(info(Type::kI4), 32), 19u);
  EXPECT_EQ(row_bytes(info(Type::kI4), 576), 3 * 2 + 18 * 17u);
  EXPECT_EQ(row_bytes(info(Type::kI8), 16), std::nullopt);
  EXPECT_EQ(row_bytes(info(Type::kI8), ~0ull / 32 * 32), std::nullopt);
}

}  // namespace
}  // namespace hearth
