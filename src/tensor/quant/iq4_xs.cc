// IQ4_XS: 256 indices of 4 bits into IQ4_NL's table in blocks of 32, each with a 6-bit scale (less 32) under one f16:
// [d][16 bits: two high bits of the scales][4 bytes: their low nibbles][128 bytes of nibbles].
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct IQ4XS {
  static constexpr int kBlock = 256, kBlockBytes = 136;
  static constexpr ScaleRange kScales = {-32, 31};
  static constexpr PanelFormat kPanel = {
      .bits = 4, .block = 32, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kIq4Table};

  static void unpack(const uint8_t* block, Parts out) {
    *out.d = load_u16(block);
    const int high = load_u16(block + 2);
    for (int b = 0; b < 8; ++b) {
      const int scale = ((block[4 + b / 2] >> (4 * (b % 2))) & 15) | ((high >> (2 * b)) & 3) << 4;
      out.scales[b] = static_cast<uint8_t>(scale - 32);
      unpack_nibbles<16>(block + 8 + 16 * b, out.codes + 32 * b);
    }
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.d);
    std::memset(block + 2, 0, 6);
    int high = 0;
    for (int b = 0; b < 8; ++b) {
      const int scale = static_cast<int8_t>(in.scales[b]) + 32;
      high |= (scale >> 4) << (2 * b);
      block[4 + b / 2] |= static_cast<uint8_t>((scale & 15) << (4 * (b % 2)));
      pack_nibbles<16>(in.codes + 32 * b, block + 8 + 16 * b);
    }
    store_u16(block + 2, static_cast<uint16_t>(high));
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 8> scales{};
    for (int b = 0; b < 8; ++b) scales[b] = best_table_scale(x + 32 * b, 32, kIq4Table);
    choose_super(kPanel, x, scales.data(), nullptr, kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kIQ4_XS = make_type<IQ4XS>(Type::kIQ4_XS, "IQ4_XS");

}  // namespace hearth::quant
