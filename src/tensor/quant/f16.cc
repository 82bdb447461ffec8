// IEEE half precision.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

void decode_f16(const std::byte* blocks, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = f16_to_f32(load_u16(bytes(blocks) + 2 * i));
}
void encode_f16(const float* in, std::byte* blocks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store_u16(bytes(blocks) + 2 * i, f32_to_f16(in[i]));
}

}  // namespace

constinit const TypeInfo kF16 = make_float<decode_f16, encode_f16>(Type::kF16, "F16", {.bits = 16});

}  // namespace hearth::quant
