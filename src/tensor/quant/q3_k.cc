// Q3_K: 256 codes of 3 bits in blocks of 16, each with a 6-bit scale (less 32) under one f16:
// [32 bytes: third bits][64 bytes: two low bits][12 bytes: scales][d], value d * (scale - 32) * (code - 4).
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q3K {
  static constexpr int kBlock = 256, kBlockBytes = 110;
  static constexpr ScaleRange kScales = {-32, 31};
  static constexpr PanelFormat kPanel = {.bits = 3, .block = 16, .scale = ScaleKind::kSuperI8, .zero = 4};

  // Scale b: low 4 bits in nibble b / 8 of byte b % 8, high 2 bits in byte 8 + b % 4 at bits 2 * (b / 4).
  static void unpack(const uint8_t* block, Parts out) {
    unpack_two_bits(block + 32, out.codes);
    unpack_bit_rows(block, 2, out.codes);
    const uint8_t* packed = block + 96;
    for (int b = 0; b < 16; ++b) {
      const int scale = ((packed[b % 8] >> (4 * (b / 8))) & 15) | ((packed[8 + b % 4] >> (2 * (b / 4))) & 3) << 4;
      out.scales[b] = static_cast<uint8_t>(scale - 32);
    }
    *out.d = load_u16(block + 108);
  }
  static void pack(Parts in, uint8_t* block) {
    std::memset(block, 0, kBlockBytes);
    pack_two_bits(in.codes, block + 32);
    for (int i = 0; i < kBlock; ++i) block[i % 32] |= static_cast<uint8_t>(((in.codes[i] >> 2) & 1) << (i / 32));
    uint8_t* packed = block + 96;
    for (int b = 0; b < 16; ++b) {
      const int scale = static_cast<int8_t>(in.scales[b]) + 32;
      packed[b % 8] |= static_cast<uint8_t>((scale & 15) << (4 * (b / 8)));
      packed[8 + b % 4] |= static_cast<uint8_t>((scale >> 4) << (2 * (b / 4)));
    }
    store_u16(block + 108, *in.d);
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 16> scales{};
    for (int b = 0; b < 16; ++b) scales[b] = best_scale(x + 16 * b, 16, -4, 3);
    choose_super(kPanel, x, scales.data(), nullptr, kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kQ3_K = make_type<Q3K>(Type::kQ3_K, "Q3_K");

}  // namespace hearth::quant
