#include "tensor/quant/block_search.h"

namespace hearth::quant {
namespace {

constexpr int kCandidates = 9;  // on each side of the plain maximum

// Sums from which the best scale for given integers and its gain follow (least squares).
struct Fit {
  float xq = 0, qq = 0;
  void add(float x, float q) {
    const float weight = x * x;
    xq += weight * x * q;
    qq += weight * q * q;
  }
  [[nodiscard]] float scale() const { return qq > 0 ? xq / qq : 0; }
  [[nodiscard]] float gain() const { return qq > 0 ? xq * xq / qq : 0; }
};

float largest(const float* x, int n) {
  float result = 0;
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(result)) result = x[i];
  }
  return result;
}

// The scale of the best of several tries around largest / bound; integer(v) gives the integer nearest to v.
template <typename Integer>
float search(const float* x, int n, float bound, float step, Integer integer) {
  const float extreme = largest(x, n);
  if (extreme == 0 || !std::isfinite(extreme)) return 0;
  float best_gain = -1;
  float best = extreme / bound;
  for (int candidate = -kCandidates; candidate <= kCandidates; ++candidate) {
    const float inverse_scale = (bound + step * static_cast<float>(candidate)) / extreme;
    if (!std::isfinite(inverse_scale)) continue;
    Fit fit;
    for (int i = 0; i < n; ++i) fit.add(x[i], integer(x[i] * inverse_scale));
    if (fit.gain() > best_gain && fit.scale() != 0 && std::isfinite(fit.scale())) {
      best_gain = fit.gain();
      best = fit.scale();
    }
  }
  return best;
}

}  // namespace

float best_scale(const float* x, int n, int lo, int hi) {
  return search(x, n, static_cast<float>(lo), 0.1f, [&](float v) { return static_cast<float>(round_code(v, lo, hi)); });
}

ScaleMin best_scale_min(const float* x, int n, int hi) {
  float low = 0, high = x[0];
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  if (!(high > low) || !std::isfinite(high - low)) return {0, high == low && std::isfinite(low) ? -low : 0};
  ScaleMin best{(high - low) / static_cast<float>(hi), -low};
  float best_error = INFINITY;
  for (int candidate = -kCandidates; candidate <= kCandidates; ++candidate) {
    const float inverse_scale = (static_cast<float>(hi) + 0.1f * static_cast<float>(candidate)) / (high - low);
    // For these integers, least squares in the scale and the minimum together.
    float sum_q = 0, sum_qq = 0, sum_x = 0, sum_xq = 0;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(round_code((x[i] - low) * inverse_scale, 0, hi));
      sum_q += q;
      sum_qq += q * q;
      sum_x += x[i];
      sum_xq += x[i] * q;
    }
    const auto count = static_cast<float>(n);
    const float determinant = count * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    ScaleMin fit{(count * sum_xq - sum_q * sum_x) / determinant, -(sum_qq * sum_x - sum_q * sum_xq) / determinant};
    if (fit.min < 0) fit = {sum_xq / sum_qq, 0};  // the format's minimum only lowers
    if (!(fit.scale > 0)) continue;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const int q = round_code((x[i] + fit.min) / fit.scale, 0, hi);
      const float off = fit.scale * static_cast<float>(q) - fit.min - x[i];
      error += off * off;
    }
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

uint8_t nearest_index(const std::array<int8_t, 16>& table, float x, float inverse_scale) {
  const float target = x * inverse_scale;
  int best = 0;
  for (int i = 1; i < 16; ++i) {
    if (std::abs(static_cast<float>(table[i]) - target) < std::abs(static_cast<float>(table[best]) - target)) best = i;
  }
  return static_cast<uint8_t>(best);
}

float best_table_scale(const float* x, int n, const std::array<int8_t, 16>& table) {
  // Steps as fine, compared with the table, as those of best_scale().
  return search(x, n, table[0], static_cast<float>(-table[0]) / 63.5f,
                [&](float v) { return static_cast<float>(table[nearest_index(table, v, 1)]); });
}

uint8_t nearest_code(const PanelFormat& format, float x, float inverse_scale) {
  if (format.has_low) {
    const int high = nearest_index(format.table, x, inverse_scale / 4);
    return static_cast<uint8_t>(high << 4 | round_code(x * inverse_scale + static_cast<float>(68 - 8 * high), 0, 15));
  }
  if (format.has_table) return nearest_index(format.table, x, inverse_scale);
  const int code_hi = (1 << format.bits) - 1;
  return static_cast<uint8_t>(round_code(x * inverse_scale + static_cast<float>(format.zero), 0, code_hi));
}

void choose_super(const PanelFormat& format, const float* x, const float* scales, const float* mins, ScaleRange range,
                  Parts out) {
  const int blocks = out.n / format.block;
  const float bound = static_cast<float>(range.lo < 0 ? range.lo : range.hi);
  const uint16_t d = f32_to_f16(largest(scales, blocks) / bound);
  *out.d = d;
  const float inverse_d = inverse(f16_to_f32(d));
  float inverse_dmin = 0;
  if (format.has_min) {
    *out.dmin = f32_to_f16(largest(mins, blocks) / static_cast<float>(range.hi));
    inverse_dmin = inverse(f16_to_f32(*out.dmin));
  }
  for (int block = 0; block < blocks; ++block) {
    const int scale = round_code(scales[block] * inverse_d, range.lo, range.hi);
    out.scales[block] = static_cast<uint8_t>(scale);
    float min = 0;
    if (format.has_min) {
      out.mins[block] = static_cast<uint16_t>(round_code(mins[block] * inverse_dmin, 0, range.hi));
      min = element_min(format, out.mins[block], *out.dmin);
    }
    const float inverse_scale = inverse(element_scale(format, out.scales[block], d));
    for (int i = block * format.block; i < (block + 1) * format.block; ++i)
      out.codes[i] = nearest_code(format, x[i] + min, inverse_scale);
  }
}

}  // namespace hearth::quant
