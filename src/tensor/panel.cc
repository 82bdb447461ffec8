#include "tensor/panel.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "tensor/element.h"
#include "tensor/type.h"

namespace hearth {
namespace {

constexpr int kSteps = kGroup / 4;  // a step is 4 codes of a row, one 32-bit word
constexpr int kVectorBytes = 4 * kPanelRows;
using Words = std::array<uint32_t, kSteps>;

uint32_t load_word(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
void store_word(uint8_t* p, uint32_t word) { std::memcpy(p, &word, 4); }

// The low `width` bits of each of the four codes of a word.
constexpr uint32_t mask_of(int width) { return ((1u << width) - 1) * 0x01010101u; }

constexpr int plane_bytes(int width) { return width * kVectorBytes; }

// One plane: bits [shift, shift + width) of the codes. Vector v holds the steps v, v + width, v + 2 * width, ...
template <int width>
void pack_plane(const Words& words, int shift, uint8_t* plane) {
  for (int v = 0; v < width; ++v) {
    uint32_t packed = 0;
    for (int part = 0; part < 8 / width; ++part) {
      packed |= ((words[v + part * width] >> shift) & mask_of(width)) << (part * width);
    }
    store_word(plane + v * kVectorBytes, packed);
  }
}

template <int width>
void unpack_plane(const uint8_t* plane, int shift, Words& words) {
  for (int v = 0; v < width; ++v) {
    const uint32_t packed = load_word(plane + v * kVectorBytes);
    for (int part = 0; part < 8 / width; ++part) {
      words[v + part * width] |= ((packed >> (part * width)) & mask_of(width)) << shift;
    }
  }
}

// `planes` points at the lane of one row. 3 = 2 + 1 bits, 5 = 4 + 1, 6 = 4 + 2, low bits first.
void pack_planes(int bits, const Words& words, uint8_t* planes) {
  switch (bits) {
    case 2:
      pack_plane<2>(words, 0, planes);
      break;
    case 3:
      pack_plane<2>(words, 0, planes);
      pack_plane<1>(words, 2, planes + plane_bytes(2));
      break;
    case 4:
      pack_plane<4>(words, 0, planes);
      break;
    case 5:
      pack_plane<4>(words, 0, planes);
      pack_plane<1>(words, 4, planes + plane_bytes(4));
      break;
    case 6:
      pack_plane<4>(words, 0, planes);
      pack_plane<2>(words, 4, planes + plane_bytes(4));
      break;
    default:
      pack_plane<8>(words, 0, planes);
      break;
  }
}

void unpack_planes(int bits, const uint8_t* planes, Words& words) {
  words = {};
  switch (bits) {
    case 2:
      unpack_plane<2>(planes, 0, words);
      break;
    case 3:
      unpack_plane<2>(planes, 0, words);
      unpack_plane<1>(planes + plane_bytes(2), 2, words);
      break;
    case 4:
      unpack_plane<4>(planes, 0, words);
      break;
    case 5:
      unpack_plane<4>(planes, 0, words);
      unpack_plane<1>(planes + plane_bytes(4), 4, words);
      break;
    case 6:
      unpack_plane<4>(planes, 0, words);
      unpack_plane<2>(planes + plane_bytes(4), 4, words);
      break;
    default:
      unpack_plane<8>(planes, 0, words);
      break;
  }
}

// Scales and headers: little-endian numbers of `size` bytes, one per row.
void store_number(uint8_t* p, int size, uint16_t value) {
  p[0] = static_cast<uint8_t>(value);
  if (size == 2) p[1] = static_cast<uint8_t>(value >> 8);
}
uint16_t load_number(const uint8_t* p, int size) { return static_cast<uint16_t>(size == 2 ? p[0] | p[1] << 8 : p[0]); }

int64_t super_offset(const PanelFormat& format, int64_t group) {
  return group / kSuperGroups * (format.super_header_bytes() + kSuperGroups * format.group_bytes());
}
int64_t group_offset(const PanelFormat& format, int64_t group) {
  if (!format.has_super()) return group * format.group_bytes();
  return super_offset(format, group) + format.super_header_bytes() + group % kSuperGroups * format.group_bytes();
}

void pack_row(const PanelFormat& format, const RowCodes& row, int lane, int64_t k, uint8_t* panel) {
  const int blocks = format.blocks_per_group();
  const int size = format.scale_bytes();
  for (int64_t group = 0; group < k / kGroup; ++group) {
    if (format.has_super() && group % kSuperGroups == 0) {
      uint8_t* header = panel + super_offset(format, group) + 2 * lane;
      store_number(header, 2, row.d[group / kSuperGroups]);
      if (format.has_min) store_number(header + 2 * kPanelRows, 2, row.dmin[group / kSuperGroups]);
    }
    uint8_t* scales = panel + group_offset(format, group);
    for (int block = 0; block < blocks; ++block) {
      uint8_t* scale = scales + (block * kPanelRows + lane) * size;
      store_number(scale, size, row.scales[group * blocks + block]);
      if (format.has_min) store_number(scale + blocks * kPanelRows * size, size, row.mins[group * blocks + block]);
    }
    Words words;
    std::memcpy(words.data(), row.codes.data() + group * kGroup, kGroup);
    pack_planes(format.bits, words, scales + format.group_scales_bytes() + 4 * lane);
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
                std::byte* panel, RowCodes& scratch) {
  CHECK(rows >= 1 && rows <= kPanelRows);
  CHECK(k % type.block == 0 && (type.panel.is_float() || k % kGroup == 0));
  if (rows < kPanelRows) std::memset(panel, 0, static_cast<size_t>(type.panel.panel_bytes(k)));
  if (type.panel.is_float()) {
    if (type.panel.bits == 32) return pack_floats<uint32_t>(first_row, row_stride, rows, k, panel);
    return pack_floats<uint16_t>(first_row, row_stride, rows, k, panel);
  }
  for (int lane = 0; lane < rows; ++lane) {
    type.split(first_row + static_cast<uint64_t>(lane) * row_stride, k, scratch);
    pack_row(type.panel, scratch, lane, k, reinterpret_cast<uint8_t*>(panel));
  }
}

void unpack_panel_row(const PanelFormat& format, const std::byte* panel, int lane, int64_t k, float* out) {
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
    unpack_planes(format.bits, scales + format.group_scales_bytes() + 4 * lane, words);
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
