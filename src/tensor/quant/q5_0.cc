// Q5_0: 32 codes of 5 bits under one f16 scale: [d][32 fifth bits][16 bytes of nibbles], value d * (code - 16).
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q50 {
  static constexpr int kBlock = 32, kBlockBytes = 22;
  static constexpr PanelFormat kPanel = {.bits = 5, .block = 32, .scale = ScaleKind::kF16, .zero = 16};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    unpack_nibbles<16>(block + 6, out.codes);
    unpack_fifth_bits(block + 2, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    pack_fifth_bits(in.codes, block + 2);
    pack_nibbles<16>(in.codes, block + 6);
  }
  // The element of largest magnitude becomes code 0, the end of the range that reaches one further.
  static void choose(const float* x, Parts out) {
    const float d = *std::max_element(x, x + kBlock, [](float a, float b) { return std::abs(a) < std::abs(b); }) / -16;
    *out.scales = f32_to_f16(d);
    for (int j = 0; j < kBlock; ++j) {
      out.codes[j] = static_cast<uint8_t>(truncate_code(x[j] * inverse(d) + 16.5f, 0, 31));
    }
  }
};

}  // namespace

constinit const TypeInfo kQ5_0 = make_type<Q50>(Type::kQ5_0, "Q5_0");

}  // namespace hearth::quant
