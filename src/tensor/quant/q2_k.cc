// Q2_K: 256 codes of 2 bits in blocks of 16, each with a 4-bit scale and a 4-bit minimum under two f16:
// [16 x scale | minimum << 4][64 bytes of codes][d][dmin], value d * scale * code - dmin * minimum.
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q2K {
  static constexpr int kBlock = 256, kBlockBytes = 84;
  static constexpr ScaleRange kScales = {0, 15};
  static constexpr PanelFormat kPanel = {.bits = 2, .block = 16, .scale = ScaleKind::kSuperU8, .has_min = true};

  static void unpack(const uint8_t* block, Parts out) {
    for (int b = 0; b < 16; ++b) {
      out.scales[b] = block[b] & 15;
      out.mins[b] = block[b] >> 4;
    }
    unpack_two_bits(block + 16, out.codes);
    *out.d = load_u16(block + 80);
    *out.dmin = load_u16(block + 82);
  }
  static void pack(Parts in, uint8_t* block) {
    for (int b = 0; b < 16; ++b) block[b] = static_cast<uint8_t>(in.scales[b] | in.mins[b] << 4);
    pack_two_bits(in.codes, block + 16);
    store_u16(block + 80, *in.d);
    store_u16(block + 82, *in.dmin);
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 16> scales{}, mins{};
    for (int b = 0; b < 16; ++b) {
      const ScaleMin best = best_scale_min(x + 16 * b, 16, 3);
      scales[b] = best.scale;
      mins[b] = best.min;
    }
    choose_super(kPanel, x, scales.data(), mins.data(), kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kQ2_K = make_type<Q2K>(Type::kQ2_K, "Q2_K");

}  // namespace hearth::quant
