// MXFP4: 32 numbers of 4 bits (E2M1) under one exponent byte: [e][16 bytes of nibbles]. The numbers are kept doubled,
// as integers, so the scale is 2^(e - 128). OCP Microscaling Formats (MX) Specification 1.0, section 5.3.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct MXFP4 {
  static constexpr int kBlock = 32, kBlockBytes = 17;
  static constexpr PanelFormat kPanel = {.bits = 4,
                                         .block = 32,
                                         .scale = ScaleKind::kE8M0,
                                         .has_table = true,
                                         .table = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}};

  static void unpack(const uint8_t* block, Parts out) {
    *out.scales = block[0];
    unpack_nibbles<16>(block + 1, out.codes);
  }
  static void pack(Parts in, uint8_t* block) {
    block[0] = static_cast<uint8_t>(*in.scales);
    pack_nibbles<16>(in.codes, block + 1);
  }
  // The largest magnitude gets the exponent of the largest number, 6 = 1.5 * 2^2.
  static void choose(const float* x, Parts out) {
    float extreme = 0;
    for (int j = 0; j < kBlock; ++j) extreme = std::max(extreme, std::abs(x[j]));
    const int exponent = extreme > 0 && std::isfinite(extreme) ? std::ilogb(extreme) - 2 + 127 : 0;
    *out.scales = static_cast<uint8_t>(std::clamp(exponent, 0, 254));
    const float scale = e8m0_half_to_f32(static_cast<uint8_t>(*out.scales));
    for (int j = 0; j < kBlock; ++j) {
      int best = 0;
      for (int i = 1; i < 16; ++i) {
        const float error = std::abs(scale * static_cast<float>(kPanel.table[i]) - x[j]);
        if (error < std::abs(scale * static_cast<float>(kPanel.table[best]) - x[j])) best = i;
      }
      out.codes[j] = static_cast<uint8_t>(best);
    }
  }
};

}  // namespace

constinit const TypeInfo kMXFP4 = make_type<MXFP4>(Type::kMXFP4, "MXFP4");

}  // namespace hearth::quant
