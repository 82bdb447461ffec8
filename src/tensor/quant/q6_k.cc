// Q6_K: 256 codes of 6 bits in blocks of 16, each with a signed 8-bit scale under one f16:
// [128 bytes: low nibbles][64 bytes: two high bits][16 scales][d], value d * scale * (code - 32).
#include "tensor/quant/all.h"
#include "tensor/quant/block_search.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

struct Q6K {
  static constexpr int kBlock = 256, kBlockBytes = 210;
  static constexpr ScaleRange kScales = {-128, 127};
  static constexpr PanelFormat kPanel = {.bits = 6, .block = 16, .scale = ScaleKind::kSuperI8, .zero = 32};

  // Each half of 128: element l + 32 * j has its high bits in byte l at 2 * j, its nibble in byte l + 32 * (j % 2).
  static void unpack(const uint8_t* block, Parts out) {
    for (int half = 0; half < 2; ++half) {
      const uint8_t* low = block + 64 * half;
      const uint8_t* high = block + 128 + 32 * half;
      uint8_t* codes = out.codes + 128 * half;
      for (int l = 0; l < 32; l += 8) {
        const uint64_t a = load_eight(low + l), b = load_eight(low + l + 32), h = load_eight(high + l);
        store_eight(codes + l, (a & eight(15)) | (h & eight(3)) << 4);
        store_eight(codes + l + 32, (b & eight(15)) | (h & eight(12)) << 2);
        store_eight(codes + l + 64, ((a >> 4) & eight(15)) | (h & eight(48)));
        store_eight(codes + l + 96, ((b >> 4) & eight(15)) | ((h >> 2) & eight(48)));
      }
    }
    for (int b = 0; b < 16; ++b) out.scales[b] = block[192 + b];
    *out.d = load_u16(block + 208);
  }
  static void pack(Parts in, uint8_t* block) {
    for (int half = 0; half < 2; ++half) {
      const uint8_t* codes = in.codes + 128 * half;
      for (int l = 0; l < 32; ++l) {
        const int a = codes[l], b = codes[l + 32], c = codes[l + 64], d = codes[l + 96];
        block[64 * half + l] = static_cast<uint8_t>((a & 15) | (c & 15) << 4);
        block[64 * half + l + 32] = static_cast<uint8_t>((b & 15) | (d & 15) << 4);
        block[128 + 32 * half + l] =
            static_cast<uint8_t>((a >> 4 & 3) | (b >> 4 & 3) << 2 | (c >> 4 & 3) << 4 | (d >> 4 & 3) << 6);
      }
    }
    for (int b = 0; b < 16; ++b) block[192 + b] = static_cast<uint8_t>(in.scales[b]);
    store_u16(block + 208, *in.d);
  }
  static void choose(const float* x, Parts out) {
    std::array<float, 16> scales{};
    for (int b = 0; b < 16; ++b) scales[b] = best_scale(x + 16 * b, 16, -32, 31);
    choose_super(kPanel, x, scales.data(), nullptr, kScales, out);
  }
};

}  // namespace

constinit const TypeInfo kQ6_K = make_type<Q6K>(Type::kQ6_K, "Q6_K");

}  // namespace hearth::quant
