// Q4_0: 32 codes of 4 bits under one f16 scale: [d][16 bytes of nibbles], value d * (code - 8).
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q40 {
  static constexpr int kBlock = 32, kBlockBytes = 18;
  static constexpr PanelFormat kPanel = {.bits = 4, .block = 32, .scale = ScaleKind::kF16, .zero = 8};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    unpack_nibbles<16>(block + 2, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    pack_nibbles<16>(in.codes, block + 2);
  }
  // The element of largest magnitude becomes code 0, the end of the range that reaches one further.
  static void choose(const float* x, Parts out) {
    const float d = *std::max_element(x, x + kBlock, [](float a, float b) { return std::abs(a) < std::abs(b); }) / -8;
    *out.scales = f32_to_f16(d);
    for (int j = 0; j < kBlock; ++j) {
      out.codes[j] = static_cast<uint8_t>(truncate_code(x[j] * inverse(d) + 8.5f, 0, 15));
    }
  }
};

}  // namespace

constinit const TypeInfo kQ4_0 = make_type<Q40>(Type::kQ4_0, "Q4_0");

}  // namespace hearth::quant
