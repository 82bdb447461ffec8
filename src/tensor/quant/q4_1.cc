// Q4_1: 32 codes of 4 bits, one f16 scale and one f16 minimum: [d][m][16 bytes of nibbles], value d * code + m.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q41 {
  static constexpr int kBlock = 32, kBlockBytes = 20;
  static constexpr PanelFormat kPanel = {.bits = 4, .block = 32, .scale = ScaleKind::kF16, .has_min = true};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    *out.mins = load_u16(block + 2);
    unpack_nibbles<16>(block + 4, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    store_u16(block + 2, *in.mins);
    pack_nibbles<16>(in.codes, block + 4);
  }
  static void choose(const float* x, Parts out) {
    const auto [low, high] = std::minmax_element(x, x + kBlock);
    const float d = (*high - *low) / 15;
    *out.scales = f32_to_f16(d);
    *out.mins = f32_to_f16(*low);
    for (int j = 0; j < kBlock; ++j) {
      out.codes[j] = static_cast<uint8_t>(truncate_code((x[j] - *low) * inverse(d) + 0.5f, 0, 15));
    }
  }
};

}  // namespace

constinit const TypeInfo kQ4_1 = make_type<Q41>(Type::kQ4_1, "Q4_1");

}  // namespace hearth::quant
