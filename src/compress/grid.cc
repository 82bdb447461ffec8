#include "compress/grid.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "tensor/element.h"

namespace hearth::compress {
namespace {

// Tries on either side of the plain maximum, and how far apart they are in units of the grid's end.
constexpr int kTries = 9;
constexpr float kStep = 1.0f / 40;

float largest(const float* x, int n) {
  float result = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(result) || !std::isfinite(x[i])) result = x[i];
  return result;
}

}  // namespace

Grid::Grid(const PanelFormat& format) : linear_(!format.has_table), zero_(format.zero) {
  middles_.fill(std::numeric_limits<float>::infinity());
  if (linear_) {
    const int least = format.bits == 8 ? -127 : 0 - format.zero;  // Q8_0 leaves -128 out
    levels_[0] = static_cast<float>(least);
    hi_ = static_cast<float>((format.bits == 8 ? 127 : (1 << format.bits) - 1) - format.zero);
    return;
  }
  std::iota(codes_.begin(), codes_.end(), uint8_t{0});
  std::ranges::stable_sort(codes_, {}, [&](uint8_t code) { return format.table[code]; });
  size_t n = 0;  // MXFP4 has two zeros; one will do
  for (const uint8_t code : codes_) {
    const auto level = static_cast<float>(format.table[code]);
    if (n > 0 && levels_[n - 1] == level) continue;
    levels_[n] = level, codes_[n] = code;
    if (n > 0) middles_[n - 1] = (levels_[n - 1] + level) / 2, steps_[n - 1] = level - levels_[n - 1];
    ++n;
  }
  hi_ = levels_[n - 1];
}

uint8_t Grid::code(float level) const {
  if (linear_) return static_cast<uint8_t>(static_cast<int>(level) + zero_);
  return codes_[static_cast<size_t>(std::ranges::lower_bound(levels_, level, {}, [](float v) { return v; }) -
                                    levels_.begin())];
}

namespace {

// Sums run in eight lanes whatever the width of the machine's vectors, so that all give the same.
using Lanes = Grid::Lanes;
constexpr int kLanes = 8, kVectors = kGroup / kLanes;

[[gnu::always_inline]] inline float folded(const Lanes& lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

[[gnu::always_inline]] inline float best_scale_any(const Grid& grid, const float* x, const float* weights, int n) {
  const float extreme = largest(x, n);
  if (extreme == 0 || !std::isfinite(extreme)) return 0;
  Lanes values[kVectors] = {}, counts[kVectors] = {}, counted[kVectors] = {};
  std::memcpy(values, x, static_cast<size_t>(n) * sizeof(float));
  std::memcpy(counts, weights, static_cast<size_t>(n) * sizeof(float));
  for (int v = 0; v < kVectors; ++v) counted[v] = counts[v] * values[v];
  float best_gain = -1, best = 0;
  // The largest element at either end: their grids differ where a table or a zero is not in the middle.
  for (const float end : {grid.lo(), grid.hi()})
    for (int i = -kTries; i <= kTries; ++i) {
      const float inverse = end * (1 + kStep * static_cast<float>(i)) / extreme;
      Lanes xq = {}, qq = {};
      for (int v = 0; v < kVectors; ++v) {
        Lanes level;
        grid.nearest(values[v] * inverse, level);
        xq += counted[v] * level;
        qq += counts[v] * level * level;
      }
      // With the best scale for these levels, xq / qq, the error is what all have in common less this.
      const float sum_xq = folded(xq), sum_qq = folded(qq), gain = sum_qq > 0 ? sum_xq * sum_xq / sum_qq : 0;
      if (gain > best_gain && std::isfinite(sum_xq / sum_qq)) best_gain = gain, best = sum_xq / sum_qq;
    }
  return best;
}

#if defined(__x86_64__)
// The same for wider vectors.
[[gnu::target("avx2")]] float best_scale_avx2(const Grid& grid, const float* x, const float* weights, int n) {
  return best_scale_any(grid, x, weights, n);
}
#endif

}  // namespace

float best_scale(const Grid& grid, const float* x, const float* weights, int n) {
  CHECK(n <= kGroup);
#if defined(__x86_64__)
  static const bool wide = __builtin_cpu_supports("avx2");
  if (wide) return best_scale_avx2(grid, x, weights, n);
#endif
  return best_scale_any(grid, x, weights, n);
}

float block_error(const Grid& grid, const float* x, const float* weights, int n, BlockScale block) {
  const float inverse = block.scale == 0 ? 0 : 1 / block.scale;
  float error = 0;
  for (int i = 0; i < n; ++i) {
    const float off = block.scale * grid.nearest((x[i] - block.min) * inverse) + block.min - x[i];
    error += weights[i] * off * off;
  }
  return error;
}

BlockScale best_scale_min(const Grid& grid, const float* x, const float* weights, int n, bool at_most_zero) {
  float low = x[0], high = x[0];
  for (int i = 0; i < n; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  if (at_most_zero) low = std::min(low, 0.0f);
  if (!std::isfinite(high - low) || high == low) return {0, std::isfinite(low) ? low : 0};
  BlockScale best{(high - low) / grid.hi(), low};
  float best_error = block_error(grid, x, weights, n, best);
  for (int i = -kTries; i <= kTries; ++i) {
    const float inverse = grid.hi() * (1 + kStep * static_cast<float>(i)) / (high - low);
    // For the levels of this try, least squares in scale and minimum together.
    float sum = 0, sum_q = 0, sum_qq = 0, sum_x = 0, sum_xq = 0;
    for (int j = 0; j < n; ++j) {
      const float w = weights[j], q = grid.nearest((x[j] - low) * inverse);
      sum += w, sum_q += w * q, sum_qq += w * q * q, sum_x += w * x[j], sum_xq += w * x[j] * q;
    }
    const float determinant = sum * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    BlockScale fit{(sum * sum_xq - sum_q * sum_x) / determinant, (sum_qq * sum_x - sum_q * sum_xq) / determinant};
    if (at_most_zero && fit.min > 0) fit = {sum_xq / sum_qq, 0};
    if (!(fit.scale > 0) || !std::isfinite(fit.scale) || !std::isfinite(fit.min)) continue;
    const float error = block_error(grid, x, weights, n, fit);
    if (error < best_error) best_error = error, best = fit;
  }
  return best;
}

}  // namespace hearth::compress
