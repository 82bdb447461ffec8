#include "cluster/decode_rate.h"

#include <algorithm>
#include <chrono>

#include "tensor/type.h"

namespace hearth::cluster {

Result<double> measure_decode(Backend& backend) {
  constexpr int64_t kSide = 2048;
  constexpr int kMatrices = 17, kRounds = 4;  // more than caches hold, on the machines this is for
  const uint64_t bytes = *row_bytes(info(Type::kQ4_0), kSide) * kSide;
  const std::vector<std::byte> values(bytes, std::byte{0x11});
  std::vector<std::unique_ptr<Weight>> matrices;
  double read = 0;
  for (int i = 0; i < kMatrices; ++i) {
    matrices.push_back(
        TRY(backend.load({.type = Type::kQ4_0, .rows = kSide, .cols = kSide, .data = {values}, .consumed = {}})));
    read += static_cast<double>(matrices.back()->bytes());
  }
  const auto in = TRY(backend.allocate(kSide * 4)), out = TRY(backend.allocate(kSide * 4));
  const std::vector<float> ones(kSide, 1.0f);
  backend.upload(*in, 0, std::as_bytes(std::span(ones)));
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (const auto& matrix : matrices) {
      const LinearPart part{.weight = matrix.get(), .out = {out.get(), 0, 1, kSide, kSide}};
      backend.linear({.x = {in.get(), 0, 1, kSide, kSide}}, {&part, 1});
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, read / std::max(seconds, 1e-9));
  }
  return best;
}

}  // namespace hearth::cluster
