// The values that codes of a block format can stand for, and the scales that bring floats nearest to them.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/panel.h"

namespace hearth::compress {

// The integers of a format's codes, ascending.
class Grid {
 public:
  explicit Grid(const PanelFormat& format);

  [[nodiscard]] float lo() const { return levels_[0]; }
  [[nodiscard]] float hi() const { return hi_; }
  // The level nearest to v. Whatever v is, a level comes out.
  [[nodiscard]] float nearest(float v) const {
    if (linear_) {
      constexpr float kRounder = 0x1.8p23f;  // adding it and taking it away rounds what is below 2^22
      const float bounded = v > levels_[0] ? (v < hi_ ? v : hi_) : levels_[0];
      return (bounded + kRounder) - kRounder;
    }
    float level = levels_[0];
    for (size_t i = 0; i < middles_.size(); ++i) level += v > middles_[i] ? steps_[i] : 0.0f;
    return level;
  }
  // The same for many at once.
  using Lanes = float __attribute__((vector_size(32)));
  [[gnu::always_inline]] inline void nearest(const Lanes& v, Lanes& level) const {
    if (linear_) {
      constexpr float kRounder = 0x1.8p23f;
      level = v > levels_[0] ? v : Lanes{} + levels_[0];
      level = level < hi_ ? level : Lanes{} + hi_;
      level = (level + kRounder) - kRounder;
      return;
    }
    level = Lanes{} + levels_[0];
    for (size_t i = 0; i < middles_.size(); ++i) level += v > middles_[i] ? Lanes{} + steps_[i] : Lanes{};
  }
  // The code of a level that nearest() gave.
  [[nodiscard]] uint8_t code(float level) const;

 private:
  bool linear_;
  int zero_ = 0;
  float hi_ = 0;
  std::array<float, 16> levels_{};
  std::array<float, 15> middles_{}, steps_{};  // beyond the last level: middles that nothing exceeds
  std::array<uint8_t, 16> codes_{};
};

// A block's scale and minimum: value = scale * level + min.
struct BlockScale {
  float scale = 0, min = 0;
};

// The scale for which the sum of weight * (x - scale * level)^2 over n <= 32 elements is smallest, of several tries around those
// that let the largest element just fit. May be negative; 0 if every x is 0 or one is not finite.
float best_scale(const Grid& grid, const float* x, const float* weights, int n);
// Scale >= 0 and minimum together, for levels 0 to grid.hi(). `at_most_zero`: of the minimum, as k-quants have it.
BlockScale best_scale_min(const Grid& grid, const float* x, const float* weights, int n, bool at_most_zero);
// The weighted squared error of a block with a given scale and minimum.
float block_error(const Grid& grid, const float* x, const float* weights, int n, BlockScale block);

}  // namespace hearth::compress
