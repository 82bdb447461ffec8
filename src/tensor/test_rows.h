// Rows of a type for tests: random and extreme blocks.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "tensor/float16.h"
#include "tensor/type.h"

namespace hearth {

inline std::vector<float> random_floats(int64_t n, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

// Rows of random bytes: every code and, where a scale is a half, infinities and not-a-number too.
inline std::vector<std::byte> random_rows(const TypeInfo& type, int rows, int64_t k, uint32_t seed) {
  std::vector<std::byte> out(static_cast<size_t>(rows) * *row_bytes(type, static_cast<uint64_t>(k)));
  std::mt19937 random(seed);
  for (std::byte& b : out) b = static_cast<std::byte>(random());
  return out;
}

inline bool same_bits_or_both_nan(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace hearth
