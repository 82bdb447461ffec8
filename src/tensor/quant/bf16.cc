// bfloat16, the upper half of a 32-bit float.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

void decode_bf16(const std::byte* blocks, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load_u16(bytes(blocks) + 2 * i));
}
void encode_bf16(const float* in, std::byte* blocks, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store_u16(bytes(blocks) + 2 * i, f32_to_bf16(in[i]));
}

}  // namespace

constinit const TypeInfo kBF16 =
    make_float<decode_bf16, encode_bf16>(Type::kBF16, "BF16", {.bits = 16, .bfloat = true});

}  // namespace hearth::quant
