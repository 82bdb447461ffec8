#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/exact_math.h"

namespace hearth {
namespace {

// YaRN's ramp: 1 where a frequency turns often within the original context (kept), 0 where it hardly turns (interpolated).
double yarn_keep(const RopeConfig& config, int i) {
  auto dimension = [&](double rotations) {
    return config.dims * exact_log(config.original_context / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * exact_log(config.base));
  };
  const double low = std::max(0.0, std::floor(dimension(config.beta_fast)));
  const double high = std::min(config.dims - 1.0, std::ceil(dimension(config.beta_slow)));
  return 1.0 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
}

double llama3_frequency(const RopeConfig& config, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double low = config.original_context / config.low_freq_factor,
               high = config.original_context / config.high_freq_factor;
  if (wavelength < high) return frequency;
  if (wavelength > low) return frequency / config.factor;
  const double smooth = (config.original_context / wavelength - config.low_freq_factor) /
                        (config.high_freq_factor - config.low_freq_factor);
  return (1.0 - smooth) * frequency / config.factor + smooth * frequency;
}

double scaled(const RopeConfig& config, std::span<const float> factors, int i, double frequency) {
  switch (config.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kNtk:
      return frequency;
    case RopeScaling::kLinear:
      return frequency / config.factor;
    case RopeScaling::kYarn: {
      const double keep = yarn_keep(config, i);
      return frequency / config.factor * (1.0 - keep) + frequency * keep;
    }
    case RopeScaling::kLlama3:
      return llama3_frequency(config, frequency);
    case RopeScaling::kFactors:
      return frequency / static_cast<double>(factors[static_cast<size_t>(i)]);
  }
  return frequency;
}

}  // namespace

Rope::Rope(const RopeConfig& config, int context)
    : dims_(config.dims), style_(config.style), magnitude_(config.magnitude) {
  const bool is_long = !config.long_factors.empty() && context > config.original_context;
  const std::span<const float> factors = is_long ? config.long_factors : config.factors;
  double base = config.base;
  if (config.scaling == RopeScaling::kNtk && context > config.original_context) {
    const double stretch = config.factor * context / config.original_context - (config.factor - 1.0);
    base *= exact_pow(stretch, config.dims / (config.dims - 2.0));
  }
  for (int i = 0; i < dims_ / 2; ++i)
    frequencies_.push_back(scaled(config, factors, i, exact_pow(base, -2.0 * i / dims_)));
}

void Rope::cos_sin(std::span<const int> positions, float* out) const {
  const size_t half = frequencies_.size();
  for (const int position : positions) {
    for (size_t i = 0; i < half; ++i) {
      const SinCos value = exact_sin_cos(position * frequencies_[i]);
      out[i] = static_cast<float>(value.cos * magnitude_);
      out[half + i] = static_cast<float>(value.sin * magnitude_);
    }
    out += 2 * half;
  }
}

}  // namespace hearth
