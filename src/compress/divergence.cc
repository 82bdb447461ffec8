#include "compress/divergence.h"

#include <algorithm>
#include <cmath>

namespace hearth::compress {

void log_softmax(std::span<float> logits) {
  const float top = *std::ranges::max_element(logits);
  double total = 0.0;
  for (const float logit : logits) total += std::exp(logit - top);
  const float shift = top + static_cast<float>(std::log(total));
  for (float& logit : logits) logit -= shift;
}

double divergence_of_row(std::span<const float> ours, std::span<const float> reference) {
  double divergence = 0.0;
  for (size_t i = 0; i < ours.size(); ++i)
    if (reference[i] > -40.0f) divergence += std::exp(static_cast<double>(reference[i])) * (reference[i] - ours[i]);
  return divergence;
}

void Divergence::add(std::span<const float> ours, std::span<const float> reference) {
  const double divergence = divergence_of_row(ours, reference);
  sum_ += divergence;
  klds_.push_back(static_cast<float>(divergence));
  const auto top = [](std::span<const float> row) { return std::ranges::max_element(row) - row.begin(); };
  same_top_ += top(ours) == top(reference) ? 1 : 0;
}

double Divergence::mean() const { return klds_.empty() ? 0 : sum_ / static_cast<double>(klds_.size()); }

double Divergence::percentile(double share) const {
  if (klds_.empty()) return 0;
  std::vector<float> sorted = klds_;
  const size_t index = std::min(sorted.size() - 1, static_cast<size_t>(share * static_cast<double>(sorted.size())));
  std::ranges::nth_element(sorted, sorted.begin() + static_cast<ptrdiff_t>(index));
  return sorted[index];
}

double Divergence::same_top() const {
  return klds_.empty() ? 0 : static_cast<double>(same_top_) / static_cast<double>(klds_.size());
}

}  // namespace hearth::compress
