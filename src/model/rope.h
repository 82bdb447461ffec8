// Rotary position embedding: frequencies of a layer kind, and the cosines and sines of a batch's positions.
#pragma once

#include <span>
#include <vector>

#include "model/decoder_config.h"

namespace hearth {

// Frequencies after scaling (Su et al. 2021; linear; "NTK-aware"; YaRN, Peng et al. 2023, section 3.2; Llama 3.1; longrope).
// `context` is what sequences were admitted with: it alone decides between longrope's lists and how far NTK raises the base, so
// a prompt's chunking cannot.
class Rope {
 public:
  Rope(const RopeConfig& config, int context);
  [[nodiscard]] int dims() const { return dims_; }
  [[nodiscard]] RopeStyle style() const { return style_; }
  // out: [positions][cos of dims / 2, then sin of dims / 2]
  void cos_sin(std::span<const int> positions, float* out) const;

 private:
  int dims_;
  RopeStyle style_;
  double magnitude_;
  std::vector<double> frequencies_;  // dims / 2, radians per position
};

}  // namespace hearth
