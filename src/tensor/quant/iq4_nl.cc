// IQ4_NL: 32 indices of 4 bits into a table of uneven steps, under one f16 scale: [d][16 bytes of nibbles].
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct IQ4NL {
  static constexpr int kBlock = 32, kBlockBytes = 18;
  static constexpr PanelFormat kPanel = {
      .bits = 4, .block = 32, .scale = ScaleKind::kF16, .has_table = true, .table = kIq4Table};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = load_u16(block);
    unpack_nibbles<16>(block + 2, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    store_u16(block, *in.scales);
    pack_nibbles<16>(in.codes, block + 2);
  }
  static void choose(const float* x, Parts out) {
    *out.scales = f32_to_f16(best_table_scale(x, kBlock, kIq4Table));
    const float inverse_scale = inverse(f16_to_f32(*out.scales));
    for (int j = 0; j < kBlock; ++j) out.codes[j] = nearest_index(kIq4Table, x[j], inverse_scale);
  }
};

}  // namespace

constinit const TypeInfo kIQ4_NL = make_type<IQ4NL>(Type::kIQ4_NL, "IQ4_NL");

}  // namespace hearth::quant
