// Q4_K: 256 codes of 4 bits in blocks of 32, each with a 6-bit scale and a 6-bit minimum under two f16:
// [d][dmin][12 bytes: scales and minimums][128 bytes of nibbles], value d * scale * code - dmin * minimum.
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q4K {
  static constexpr int kBlock = 256, kBlockBytes = 144;
  static constexpr ScaleRange kScales = {0, 63};
  static constexpr PanelFormat kPanel = {.bits = 4, .block = 32, .scale = ScaleKind::kSuperU8, .has_min = true};

  static void unpack(const uint8_t* block, Parts out) {
    *out.d = load_u16(block);
    *out.dmin = load_u16(block + 2);
    unpack_six_bits(block + 4, out.scales, out.mins);
    for (int half = 0; half < 4; ++half) unpack_nibbles<32>(block + 16 + 32 * half, out.codes + 64 * half);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.d);
    store_u16(block + 2, *in.dmin);
    pack_six_bits(in.scales, in.mins, block + 4);
    for (int half = 0; half < 4; ++half) pack_nibbles<32>(in.codes + 64 * half, block + 16 + 32 * half);
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 8> scales{}, mins{};
    for (int b = 0; b < 8; ++b) {
      const ScaleMin best = best_scale_min(x + 32 * b, 32, 15);
      scales[b] = best.scale;
      mins[b] = best.min;
    }
    choose_super(kPanel, x, scales.data(), mins.data(), kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kQ4_K = make_type<Q4K>(Type::kQ4_K, "Q4_K");

}  // namespace hearth::quant
