// Q8_0: 32 signed bytes under one f16 scale: [d][32 bytes], value d * code.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q80 {
  static constexpr int kBlock = 32, kBlockBytes = 34;
  static constexpr PanelFormat kPanel = {.bits = 8, .block = 32, .scale = ScaleKind::kF16};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    std::memcpy(out.codes, block + 2, kBlock);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    std::memcpy(block + 2, in.codes, kBlock);
  }
  static void choose(const float* x, Parts out) {
    float extreme = 0;
    for (int j = 0; j < kBlock; ++j) extreme = std::max(extreme, std::abs(x[j]));
    const float d = extreme / 127;
    *out.scales = f32_to_f16(d);
    for (int j = 0; j < kBlock; ++j) out.codes[j] = static_cast<uint8_t>(round_code(x[j] * inverse(d), -127, 127));
  }
};

}  // namespace

constinit const TypeInfo kQ8_0 = make_type<Q80>(Type::kQ8_0, "Q8_0");

}  // namespace hearth::quant
