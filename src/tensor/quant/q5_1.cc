// Q5_1: 32 codes of 5 bits, f16 scale and minimum: [d][m][32 fifth bits][16 bytes of nibbles], value d * code + m.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q51 {
  static constexpr int kBlock = 32, kBlockBytes = 24;
  static constexpr PanelFormat kPanel = {.bits = 5, .block = 32, .scale = ScaleKind::kF16, .has_min = true};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    *out.mins = load_u16(block + 2);
    unpack_nibbles<16>(block + 8, out.codes);
    unpack_fifth_bits(block + 4, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    store_u16(block + 2, *in.mins);
    pack_fifth_bits(in.codes, block + 4);
    pack_nibbles<16>(in.codes, block + 8);
  }
  static void choose(const float* x, Parts out) {
    const auto [low, high] = std::minmax_element(x, x + kBlock);
    const float d = (*high - *low) / 31;
    *out.scales = f32_to_f16(d);
    *out.mins = f32_to_f16(*low);
    for (int j = 0; j < kBlock; ++j) {
      out.codes[j] = static_cast<uint8_t>(truncate_code((x[j] - *low) * inverse(d) + 0.5f, 0, 31));
    }
  }
};

}  // namespace

constinit const TypeInfo kQ5_1 = make_type<Q51>(Type::kQ5_1, "Q5_1");

}  // namespace hearth::quant
