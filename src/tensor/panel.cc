#include "tensor/panel.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "tensor/element.h"
#include "tensor/planes.h"
#include "tensor/type.h"

namespace hearth {
namespace {

// Scales and headers: little-endian numbers of `size` bytes, one per row.
uint16_t load_number(const uint8_t* p, int size) { return static_cast<uint16_t>(size == 2 ? p[0] | p[1] << 8 : p[0]); }

int64_t super_offset(const PanelFormat& format, int64_t group) {
  return group / kSuperGroups * (format.super_header_bytes() + kSuperGroups * format.group_bytes());
}
int64_t group_offset(const PanelFormat& format, int64_t group) {
  if (!format.has_super()) return group * format.group_bytes();
  return super_offset(format, group) + format.super_header_bytes() + group % kSuperGroups * format.group_bytes();
}

void unpack_codes(int bits, const uint8_t* planes, Words& words) {
  switch (bits) {
    case 2:
      return unpack_planes<2>(planes, words);
    case 3:
      return unpack_planes<3>(planes, words);
    case 4:
      return unpack_planes<4>(planes, words);
    case 5:
      return unpack_planes<5>(planes, words);
    case 6:
      return unpack_planes<6>(planes, words);
    default:
      return unpack_planes<8>(planes, words);
  }
}

template <typename T>
void pack_floats(const std::byte* first_row, uint64_t row_stride, int rows, int64_t k, std::byte* panel) {
  for (int lane = 0; lane < rows; ++lane) {
    const std::byte* row = first_row + static_cast<uint64_t>(lane) * row_stride;
    for (int64_t i = 0; i < k; ++i) {
      std::memcpy(panel + (kPanelRows * i + lane) * static_cast<int64_t>(sizeof(T)), row + i * sizeof(T), sizeof(T));
    }
  }
}

void unpack_floats(const PanelFormat& format, const std::byte* panel, int lane, int64_t k, float* out) {
  for (int64_t i = 0; i < k; ++i) {
    const int64_t index = kPanelRows * i + lane;
    if (format.bits == 32) {
      std::memcpy(out + i, panel + 4 * index, 4);
    } else {
      const uint16_t half = load_number(reinterpret_cast<const uint8_t*>(panel) + 2 * index, 2);
      out[i] = format.bfloat ? bf16_to_f32(half) : f16_to_f32(half);
    }
  }
}

}  // namespace

void pack_panel(const TypeInfo& type, const std::byte* first_row, uint64_t row_stride, int rows, int64_t k,
                std::byte* panel, Plane plane) {
  const bool low = plane == Plane::kLow;
  CHECK(rows >= 1 && rows <= kPanelRows);
  CHECK(k % type.block == 0 && (type.panel.is_float() || k % kGroup == 0));
  CHECK(!low || type.panel.has_low);
  if (rows < kPanelRows)
    std::memset(panel, 0, static_cast<size_t>(low ? type.panel.low_bytes(k) : type.panel.panel_bytes(k)));
  if (type.panel.is_float()) {
    if (type.panel.bits == 32) return pack_floats<uint32_t>(first_row, row_stride, rows, k, panel);
    return pack_floats<uint16_t>(first_row, row_stride, rows, k, panel);
  }
  (low ? type.pack_low_rows : type.pack_rows)(first_row, row_stride, rows, k, panel);
}

void pack_panels(const TypeInfo& type, std::span<const std::byte> data, int64_t rows, int64_t k, int64_t begin,
                 int64_t end, std::byte* out, Plane plane) {
  const auto row = row_bytes(type, static_cast<uint64_t>(k));
  CHECK(row && end * kPanelRows < rows + kPanelRows && static_cast<uint64_t>(rows) * *row <= data.size());
  const int64_t panel_bytes = plane == Plane::kLow ? type.panel.low_bytes(k) : type.panel.panel_bytes(k);
  for (int64_t panel = begin; panel < end; ++panel, out += panel_bytes) {
    const int64_t first = panel * kPanelRows;
    pack_panel(type, data.data() + static_cast<uint64_t>(first) * *row, *row,
               static_cast<int>(std::min<int64_t>(kPanelRows, rows - first)), k, out, plane);
  }
}

void unpack_panel_row(const PanelFormat& format, const std::byte* panel, const std::byte* low, int lane, int64_t k,
                      float* out) {
  if (format.is_float()) return unpack_floats(format, panel, lane, k, out);
  const auto* base = reinterpret_cast<const uint8_t*>(panel);
  const int blocks = format.blocks_per_group();
  const int size = format.scale_bytes();
  for (int64_t group = 0; group < k / kGroup; ++group) {
    const uint8_t* header = base + super_offset(format, group) + 2 * lane;
    const uint16_t d = format.has_super() ? load_number(header, 2) : uint16_t{0};
    const uint16_t dmin = format.has_super() && format.has_min ? load_number(header + 2 * kPanelRows, 2) : uint16_t{0};
    const uint8_t* scales = base + group_offset(format, group);
    Words words;
    unpack_codes(format.bits, scales + format.group_scales_bytes() + 4 * lane, words);
    if (format.has_low) {
      for (uint32_t& word : words) word <<= 4;
      unpack_plane<4>(reinterpret_cast<const uint8_t*>(low) + group * plane_bytes(4) + 4 * lane, 0, words);
    }
    std::array<uint8_t, kGroup> codes;
    std::memcpy(codes.data(), words.data(), kGroup);
    for (int block = 0; block < blocks; ++block) {
      const uint8_t* stored = scales + (block * kPanelRows + lane) * size;
      const float scale = element_scale(format, load_number(stored, size), d);
      float min = 0;
      if (format.has_min) min = element_min(format, load_number(stored + blocks * kPanelRows * size, size), dmin);
      for (int j = block * format.block; j < (block + 1) * format.block; ++j) {
        out[group * kGroup + j] = element_value(format, element_integer(format, codes[j]), scale, min);
      }
    }
  }
}

float panel_value(const PanelFormat& format, const RowCodes& row, int64_t i) {
  const int64_t block = i / format.block;
  const int64_t super = i / (kGroup * kSuperGroups);
  const float scale = element_scale(format, row.scales[block], format.has_super() ? row.d[super] : uint16_t{0});
  float min = 0;
  if (format.has_min) min = element_min(format, row.mins[block], format.has_super() ? row.dmin[super] : uint16_t{0});
  return element_value(format, element_integer(format, row.codes[i]), scale, min);
}

}  // namespace hearth
