// Bit planes of one group of one row (layout: panel.h).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "tensor/panel.h"

namespace hearth {

inline constexpr int kSteps = kGroup / 4;  // a step is 4 codes of a row, one little-endian 32-bit word
inline constexpr int kVectorBytes = 4 * kPanelRows;
using Words = std::array<uint32_t, kSteps>;

// The low `width` bits of each of the four codes of a word.
constexpr uint32_t mask_of(int width) { return ((1u << width) - 1) * 0x01010101u; }
constexpr int plane_bytes(int width) { return width * kVectorBytes; }
// 3 = 2 + 1 bits, 5 = 4 + 1, 6 = 4 + 2, low bits first; 2, 4 and 8 are one plane.
constexpr int low_width(int bits) { return bits == 8 ? 8 : bits >= 4 ? 4 : 2; }

// One plane: bits [shift, shift + width) of the codes. Vector v holds the steps v, v + width, v + 2 * width, ...
template <int width>
inline void pack_plane(const Words& words, int shift, uint8_t* plane) {
  for (int v = 0; v < width; ++v) {
    uint32_t packed = 0;
    for (int part = 0; part < 8 / width; ++part) {
      packed |= ((words[v + part * width] >> shift) & mask_of(width)) << (part * width);
    }
    std::memcpy(plane + v * kVectorBytes, &packed, 4);
  }
}

template <int width>
inline void unpack_plane(const uint8_t* plane, int shift, Words& words) {
  for (int v = 0; v < width; ++v) {
    uint32_t packed;
    std::memcpy(&packed, plane + v * kVectorBytes, 4);
    for (int part = 0; part < 8 / width; ++part) {
      words[v + part * width] |= ((packed >> (part * width)) & mask_of(width)) << shift;
    }
  }
}

// `planes` points at the lane of one row. `shift`: how many bits of the codes lie elsewhere.
template <int bits, int shift = 0>
inline void pack_planes(const Words& words, uint8_t* planes) {
  constexpr int kLow = low_width(bits), kHigh = bits - kLow;
  pack_plane<kLow>(words, shift, planes);
  if constexpr (kHigh > 0) pack_plane<kHigh>(words, shift + kLow, planes + plane_bytes(kLow));
}

template <int bits>
inline void unpack_planes(const uint8_t* planes, Words& words) {
  constexpr int kLow = low_width(bits), kHigh = bits - kLow;
  words = {};
  unpack_plane<kLow>(planes, 0, words);
  if constexpr (kHigh > 0) unpack_plane<kHigh>(planes + plane_bytes(kLow), kLow, words);
}

}  // namespace hearth
