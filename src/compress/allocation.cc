#include "compress/allocation.h"

#include <algorithm>

#include "base/check.h"

namespace hearth::compress {
namespace {

// From one choice of a matrix to a larger and better one.
struct Step {
  size_t matrix = 0, from = 0, to = 0;
  uint64_t bytes = 0;
  double gain = 0;
  [[nodiscard]] double per_byte() const { return gain / static_cast<double>(bytes); }
};

// Choices that no other beats in both, smaller ones first.
std::vector<size_t> useful(const MatrixChoices& matrix) {
  std::vector<size_t> order(matrix.choices.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto& choices = matrix.choices;
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return std::pair(choices[a].bytes, choices[a].divergence) < std::pair(choices[b].bytes, choices[b].divergence);
  });
  std::vector<size_t> out;
  for (const size_t i : order)
    if (out.empty() || choices[i].divergence < choices[out.back()].divergence) out.push_back(i);
  return out;
}

Step step_between(const MatrixChoices& matrix, size_t index, size_t from, size_t to) {
  return {.matrix = index,
          .from = from,
          .to = to,
          .bytes = matrix.choices[to].bytes - matrix.choices[from].bytes,
          .gain = matrix.choices[from].divergence - matrix.choices[to].divergence};
}

// Along the hull each step gains less per byte than the one before.
std::vector<Step> hull(const MatrixChoices& matrix, size_t index) {
  std::vector<Step> steps;
  const std::vector<size_t> choices = useful(matrix);
  for (size_t i = 1; i < choices.size(); ++i) {
    Step step = step_between(matrix, index, choices[i - 1], choices[i]);
    while (!steps.empty() && steps.back().per_byte() <= step.per_byte()) {
      step = step_between(matrix, index, steps.back().from, step.to);
      steps.pop_back();
    }
    steps.push_back(step);
  }
  return steps;
}

// Everything at its smallest, and all steps from there, those that gain most per byte first.
struct Plan {
  Allocation smallest;
  std::vector<Step> steps;
};
Plan plan_of(std::span<const MatrixChoices> matrices) {
  Plan plan;
  for (size_t i = 0; i < matrices.size(); ++i) {
    CHECK(!matrices[i].choices.empty());
    plan.smallest.push_back(useful(matrices[i]).front());
    const std::vector<Step> steps = hull(matrices[i], i);
    plan.steps.insert(plan.steps.end(), steps.begin(), steps.end());
  }
  std::ranges::stable_sort(plan.steps, [](const Step& a, const Step& b) { return a.per_byte() > b.per_byte(); });
  return plan;
}

}  // namespace

AllocationSum sum_of(std::span<const MatrixChoices> matrices, const Allocation& allocation) {
  AllocationSum sum;
  for (size_t i = 0; i < matrices.size(); ++i) {
    sum.bytes += matrices[i].choices[allocation[i]].bytes;
    sum.divergence += matrices[i].choices[allocation[i]].divergence;
  }
  return sum;
}

std::optional<Allocation> allocate_bytes(std::span<const MatrixChoices> matrices, uint64_t bytes) {
  Plan plan = plan_of(matrices);
  uint64_t used = sum_of(matrices, plan.smallest).bytes;
  if (used > bytes) return std::nullopt;
  Allocation& chosen = plan.smallest;
  for (const Step& step : plan.steps) {
    // A step that did not fit ends its matrix; later ones of other matrices may still fit.
    if (chosen[step.matrix] != step.from || step.bytes > bytes - used) continue;
    chosen[step.matrix] = step.to;
    used += step.bytes;
  }
  return chosen;
}

std::optional<Allocation> allocate_divergence(std::span<const MatrixChoices> matrices, double divergence) {
  const Plan plan = plan_of(matrices);
  Allocation chosen = plan.smallest;
  std::vector<const Step*> taken;
  for (const Step& step : plan.steps) {
    if (sum_of(matrices, chosen).divergence <= divergence) break;
    chosen[step.matrix] = step.to;
    taken.push_back(&step);
  }
  if (sum_of(matrices, chosen).divergence > divergence) return std::nullopt;
  // The last step may have gained more than was needed, so that earlier ones are not.
  for (const Step* step : taken) {
    if (chosen[step->matrix] != step->to) continue;
    chosen[step->matrix] = step->from;
    if (sum_of(matrices, chosen).divergence > divergence) chosen[step->matrix] = step->to;
  }
  return chosen;
}

}  // namespace hearth::compress
