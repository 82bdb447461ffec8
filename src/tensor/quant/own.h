// Types of our own: blocks of 32 codes, each with a signed 8-bit scale, under one f16 for every started 256 elements of a
// row, so that rows of any multiple of 32 do. In a file form, for every started 256 elements:
//   [d] then for each block [scale][codes]
// Codes: the low four bits of two (elements j and j + 16) in a byte, 16 bytes; then, of those with more, the fifth bits, or
// two bits more of four (j, j + 8, j + 16, j + 24), or four more as the first.
#pragma once

#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {

template <PanelFormat panel>
struct Own {
  static constexpr PanelFormat kPanel = panel;
  static constexpr int kBits = panel.code_bits();
  static constexpr int kBlock = kGroup, kBlockBytes = 1 + kBits * kGroup / 8, kSuperBytes = 2;
  static constexpr ScaleRange kScales = {-127, 127};

  static void unpack(const uint8_t* block, Parts out) {
    *out.d = load_u16(block);
    block += kSuperBytes;
    for (int b = 0; b < out.n / kBlock; ++b, block += kBlockBytes) {
      uint8_t* codes = out.codes + b * kBlock;
      out.scales[b] = block[0];
      unpack_nibbles<16>(block + 1, codes);
      if constexpr (kBits == 5) unpack_fifth_bits(block + 17, codes);
      for (int j = 0; kBits == 6 && j < 4; ++j) {
        const uint64_t bits = ((load_eight(block + 17) >> (2 * j)) & eight(3)) << 4;
        store_eight(codes + 8 * j, load_eight(codes + 8 * j) | bits);
      }
      for (int j = 0; kBits == 8 && j < 16; ++j) {
        codes[j] |= static_cast<uint8_t>(block[17 + j] << 4);
        codes[j + 16] |= block[17 + j] & 0xf0;
      }
    }
  }

  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.d);
    block += kSuperBytes;
    for (int b = 0; b < in.n / kBlock; ++b, block += kBlockBytes) {
      const uint8_t* codes = in.codes + b * kBlock;
      block[0] = static_cast<uint8_t>(in.scales[b]);
      pack_nibbles<16>(codes, block + 1);
      if constexpr (kBits == 5) pack_fifth_bits(codes, block + 17);
      for (int j = 0; kBits == 6 && j < 8; ++j) {
        int bits = 0;
        for (int part = 0; part < 4; ++part) bits |= (codes[j + 8 * part] >> 4) << (2 * part);
        block[17 + j] = static_cast<uint8_t>(bits);
      }
      for (int j = 0; kBits == 8 && j < 16; ++j)
        block[17 + j] = static_cast<uint8_t>(codes[j] >> 4 | (codes[j + 16] & 0xf0));
    }
  }

  static void choose(const float* x, Parts out) {
    std::array<float, kSuperGroups> scales{};
    for (int b = 0; b < out.n / kBlock; ++b) scales[b] = block_scale(x + b * kBlock);
    choose_super(kPanel, x, scales.data(), nullptr, kScales, out);
  }

 private:
  static float block_scale(const float* x) {
    if constexpr (kPanel.has_low) {
      // The largest is at the end of what the codes reach, so that none is cut off.
      float extreme = 0;
      for (int j = 0; j < kBlock; ++j) extreme = std::max(extreme, std::abs(x[j]));
      return std::isfinite(extreme) ? extreme * 4 / 67 : 0;
    } else if constexpr (kPanel.has_table) {
      return best_table_scale(x, kBlock, kPanel.table);
    } else {
      return best_scale(x, kBlock, -kPanel.zero, kPanel.zero - 1);
    }
  }
};

}  // namespace hearth::quant
