// How far a model's predictions are from another's: Kullback-Leibler divergence and agreement of the most likely token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hearth::compress {

// In place: logits of one row to log-probabilities.
void log_softmax(std::span<float> logits);

// Sum over one row of p_ref * (log p_ref - log p), from log-probabilities.
double divergence_of_row(std::span<const float> ours, std::span<const float> reference);

class Divergence {
 public:
  // Log-probabilities of one row, of the model and of the reference.
  void add(std::span<const float> ours, std::span<const float> reference);
  [[nodiscard]] int64_t rows() const { return static_cast<int64_t>(klds_.size()); }
  // 0 without rows.
  [[nodiscard]] double mean() const;
  [[nodiscard]] double percentile(double share) const;  // 0.999: what 99.9 % of the rows do not exceed
  [[nodiscard]] double same_top() const;                // share of rows

 private:
  std::vector<float> klds_;
  double sum_ = 0;
  int64_t same_top_ = 0;
};

}  // namespace hearth::compress
