// Panels hold exactly what the file's rows hold, for every type, number of rows and length.
#include "tensor/panel.h"

#include <gtest/gtest.h>

#include "tensor/test_rows.h"
#include "tensor/type.h"

namespace hearth {
namespace {

class Panel : public testing::TestWithParam<const TypeInfo*> {
 protected:
  void expect_exact(const std::vector<std::byte>& rows_bytes, int rows, int64_t k) {
    const uint64_t stride = *row_bytes(type_, static_cast<uint64_t>(k));
    const auto size = static_cast<size_t>(type_.panel.panel_bytes(k));
    std::vector<std::byte> panel(size + 16, std::byte{0xa5});  // what lies behind may not change
    pack_panel(type_, rows_bytes.data(), stride, rows, k, panel.data());
    for (size_t i = size; i < panel.size(); ++i) ASSERT_EQ(panel[i], std::byte{0xa5});
    std::vector<std::byte> low(static_cast<size_t>(type_.panel.low_bytes(k)));
    if (type_.panel.has_low) pack_panel(type_, rows_bytes.data(), stride, rows, k, low.data(), Plane::kLow);
    std::vector<float> expected(static_cast<size_t>(k)), got(static_cast<size_t>(k));
    for (int lane = 0; lane < kPanelRows; ++lane) {
      unpack_panel_row(type_.panel, panel.data(), low.data(), lane, k, got.data());
      if (lane < rows) {
        type_.decode(rows_bytes.data() + static_cast<uint64_t>(lane) * stride, expected.data(), k);
      } else {
        std::fill(expected.begin(), expected.end(), 0.0f);
      }
      for (size_t i = 0; i < got.size(); ++i) {
        const bool same = lane < rows ? same_bits_or_both_nan(got[i], expected[i]) : got[i] == 0;
        ASSERT_TRUE(same) << "row " << lane << " of " << rows << ", element " << i << ": " << got[i] << " instead of "
                          << expected[i];
      }
    }
  }
  const TypeInfo& type_ = *GetParam();
};

TEST_P(Panel, HoldsEveryRowExactly) {
  const int step = std::max(type_.block, type_.panel.is_float() ? 1 : kGroup);
  for (int rows = 1; rows <= kPanelRows; ++rows) {
    for (const int64_t k : {step, 3 * step, 5 * step, 18 * step}) {
      expect_exact(random_rows(type_, rows, k, static_cast<uint32_t>(rows)), rows, k);
    }
  }
}

TEST_P(Panel, HoldsExtremeCodes) {
  const int64_t k = 2 * std::max(type_.block, kGroup);
  for (const int fill : {0x00, 0xff, 0x0f, 0xf0, 0x55, 0xaa, 0x80, 0x7f}) {
    auto rows = random_rows(type_, kPanelRows, k, 1);
    std::fill(rows.begin(), rows.end(), static_cast<std::byte>(fill));
    expect_exact(rows, kPanelRows, k);
  }
}

// A panel takes no more room than its rows do in the file, but for the k-quants' unpacked scales; in types of our own it
// takes just that, whatever is left over of the row.
TEST_P(Panel, TakesAboutTheRoomOfTheFile) {
  const auto file_bytes = static_cast<double>(kPanelRows * *row_bytes(type_, 1024));
  EXPECT_LE(static_cast<double>(type_.panel.matrix_bytes(1, 1024)), 1.2 * file_bytes);
  for (const int64_t k : {32, 288, 576, 640, 896})
    if (is_own(type_.type)) {
      EXPECT_EQ(type_.panel.panel_bytes(k) + type_.panel.low_bytes(k),
                kPanelRows * static_cast<int64_t>(*row_bytes(type_, static_cast<uint64_t>(k))));
    }
}

std::vector<const TypeInfo*> every_type() {
  std::vector<const TypeInfo*> out;
  for (const TypeInfo& type : all_types()) out.push_back(&type);
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, Panel, testing::ValuesIn(every_type()),
                         [](const auto& tested) { return std::string(tested.param->name); });

// The layout itself, written out by hand: kernels depend on every byte's place.
TEST(PanelLayout, IsTheOneInTheHeader) {
  PanelFormat format{.bits = 8, .block = 32, .scale = ScaleKind::kF16};
  EXPECT_EQ(format.panel_bytes(64), 2 * (16 + 256));
  const TypeInfo& q8 = info(Type::kQ8_0);
  std::vector<std::byte> rows(kPanelRows * 34);
  for (int r = 0; r < kPanelRows; ++r) {
    rows[static_cast<size_t>(34 * r)] = static_cast<std::byte>(r);
    for (int k = 0; k < 32; ++k) rows[static_cast<size_t>(34 * r + 2 + k)] = static_cast<std::byte>(16 * r + k % 16);
  }
  std::vector<std::byte> panel(16 + 256);
  pack_panel(q8, rows.data(), 34, kPanelRows, 32, panel.data());
  for (int r = 0; r < kPanelRows; ++r) {
    EXPECT_EQ(panel[static_cast<size_t>(2 * r)], static_cast<std::byte>(r));
    for (int k = 0; k < 32; ++k) {
      EXPECT_EQ(panel[static_cast<size_t>(16 + k / 4 * 32 + 4 * r + k % 4)], static_cast<std::byte>(16 * r + k % 16));
    }
  }
}

// One code at a time: where its low and its high bits must lie for 2, 3, 4, 5 and 6 bits.
TEST(PanelLayout, PlacesEveryBitOfACode) {
  for (const Type id : {Type::kQ2_K, Type::kQ3_K, Type::kQ4_0, Type::kQ5_0, Type::kQ6_K}) {
    const TypeInfo& type = info(id);
    const PanelFormat& format = type.panel;
    const int64_t k = std::max(type.block, kGroup);
    const int low_width = format.bits >= 4 ? 4 : 2;
    for (int element = 0; element < kGroup; ++element) {
      auto row = random_rows(type, 1, k, static_cast<uint32_t>(element));
      RowCodes codes;
      type.split(row.data(), k, codes);
      std::vector<std::byte> panel(static_cast<size_t>(format.panel_bytes(k)));
      pack_panel(type, row.data(), row.size(), 1, k, panel.data());
      const auto* planes =
          reinterpret_cast<const uint8_t*>(panel.data()) + format.super_header_bytes() + format.group_scales_bytes();
      const int step = element / 4;
      const auto bits_of = [&](const uint8_t* plane, int width) {
        return plane[step % width * 32 + element % 4] >> (step / width * width) & ((1 << width) - 1);
      };
      const int high_width = format.bits - low_width;
      int code = bits_of(planes, low_width);
      if (high_width > 0) code |= bits_of(planes + 32 * low_width, high_width) << low_width;
      EXPECT_EQ(code, codes.codes[static_cast<size_t>(element)]) << type.name << " element " << element;
    }
  }
}

// Packs on users' disks were written by other versions of this program: panels that lie otherwise need another number.
TEST(PanelLayout, IsTheOneOfItsVersion) {
  uint64_t gguf = 0xcbf29ce484222325u, own = gguf;  // FNV-1a
  for (const TypeInfo& type : all_types()) {
    const int64_t k = is_own(type.type) ? 544 : 512;
    std::vector<std::byte> rows(*row_bytes(type, static_cast<uint64_t>(k)) * 12);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::byte>(i * 2654435761u >> 13);
    std::vector<std::byte> panels(static_cast<size_t>(type.panel.matrix_bytes(2, k)));
    pack_panels(type, rows, 12, k, 0, 2, panels.data());
    if (type.panel.has_low)
      pack_panels(type, rows, 12, k, 0, 2, panels.data() + type.panel.low_offset(2, k), Plane::kLow);
    uint64_t& hash = is_own(type.type) ? own : gguf;
    for (const std::byte byte : panels) hash = (hash ^ std::to_integer<uint64_t>(byte)) * 0x100000001b3u;
  }
  EXPECT_EQ(kPanelLayoutVersion, 1u);
  constexpr auto kChanged = "the layout changed: raise kPanelLayoutVersion, then put the new hash here";
  EXPECT_EQ(gguf, 8050374030810753917u) << kChanged;
  EXPECT_EQ(own, 3405604120013025919u) << kChanged;
}

// What a matrix in I8 has without its low planes is, byte for byte, an I4H matrix: so each can be made from the other.
TEST(PanelLayout, NestedPanelsWithoutTheLowOnesAreThoseOfTheHighCodes) {
  const TypeInfo &nested = info(Type::kI8), &plain = info(Type::kI4H);
  EXPECT_EQ(nested.panel.high(), plain.panel);
  for (const int64_t k : {32, 256, 576}) {
    const auto row = random_rows(nested, 1, k, 5);
    RowCodes codes;
    nested.split(row.data(), k, codes);
    for (uint8_t& code : codes.codes) code >>= 4;
    std::vector<std::byte> high(*row_bytes(plain, static_cast<uint64_t>(k)));
    plain.join(codes, k, high.data());
    std::vector<std::byte> from_nested(static_cast<size_t>(plain.panel.panel_bytes(k))), from_plain = from_nested;
    pack_panel(nested, row.data(), row.size(), 1, k, from_nested.data());
    pack_panel(plain, high.data(), high.size(), 1, k, from_plain.data());
    EXPECT_EQ(from_nested, from_plain);
  }
}

}  // namespace
}  // namespace hearth
