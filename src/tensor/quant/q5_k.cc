// Q5_K: 256 codes of 5 bits in blocks of 32, each with a 6-bit scale and a 6-bit minimum under two f16:
// [d][dmin][12 bytes: scales and minimums][32 bytes: fifth bits][128 bytes of nibbles],
// value d * scale * code - dmin * minimum.
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q5K {
  static constexpr int kBlock = 256, kBlockBytes = 176;
  static constexpr ScaleRange kScales = {0, 63};
  static constexpr PanelFormat kPanel = {.bits = 5, .block = 32, .scale = ScaleKind::kSuperU8, .has_min = true};

  static void unpack(const uint8_t* block, Parts out) {
    *out.d = load_u16(block);
    *out.dmin = load_u16(block + 2);
    unpack_six_bits(block + 4, out.scales, out.mins);
    for (int part = 0; part < 4; ++part) unpack_nibbles<32>(block + 48 + 32 * part, out.codes + 64 * part);
    unpack_bit_rows(block + 16, 4, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    std::memset(block, 0, kBlockBytes);
    store_u16(block, *in.d);
    store_u16(block + 2, *in.dmin);
    pack_six_bits(in.scales, in.mins, block + 4);
    for (int i = 0; i < kBlock; ++i) block[16 + i % 32] |= static_cast<uint8_t>(((in.codes[i] >> 4) & 1) << (i / 32));
    for (int part = 0; part < 4; ++part) pack_nibbles<32>(in.codes + 64 * part, block + 48 + 32 * part);
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 8> scales{}, mins{};
    for (int b = 0; b < 8; ++b) {
      const ScaleMin best = best_scale_min(x + 32 * b, 32, 31);
      scales[b] = best.scale;
      mins[b] = best.min;
    }
    choose_super(kPanel, x, scales.data(), mins.data(), kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kQ5_K = make_type<Q5K>(Type::kQ5_K, "Q5_K");

}  // namespace hearth::quant
