// 32-bit floats as they are.
#include "tensor/quant/all.h"
#include "tensor/quant/codec.h"

namespace hearth::quant {
namespace {

void decode_f32(const std::byte* blocks, float* out, int64_t n) {
  std::memcpy(out, blocks, static_cast<size_t>(n) * 4);
}
void encode_f32(const float* in, std::byte* blocks, int64_t n) { std::memcpy(blocks, in, static_cast<size_t>(n) * 4); }

}  // namespace

constinit const TypeInfo kF32 = make_float<decode_f32, encode_f32>(Type::kF32, "F32", {.bits = 32});

}  // namespace hearth::quant
