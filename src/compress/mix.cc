#include "compress/mix.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hearth::compress {
namespace {

constexpr int kCurvePoints = 16;
// How often a target of divergence is tried, and how near below it is near enough.
constexpr int kRounds = 4;
constexpr double kNearEnough = 0.9;

class Chooser {
 public:
  Chooser(std::span<const MatrixChoices> matrices, const TypePlan& fixed, const FileBytes& file_bytes)
      : matrices_(matrices), fixed_(fixed), file_bytes_(file_bytes) {}

  Result<Mix> choose(const MixTarget& target) {
    smallest_ = *allocate_divergence(matrices_, std::numeric_limits<double>::infinity());
    const uint64_t matrix_bytes = sum_of(matrices_, smallest_).bytes, least = TRY(file_bytes_(plan_of(smallest_)));
    around_ = least - std::min(least, matrix_bytes);
    Allocation chosen;
    if (target.bytes) {
      if (least > *target.bytes)
        return fail(Code::kInvalidArgument,
                    "a target of {} bytes: the smallest mix has {}; raise the target, or prune the model first",
                    *target.bytes, least);
      chosen = TRY(within(*target.bytes));
    } else {
      const auto found = allocate_divergence(matrices_, *target.divergence);
      if (!found)
        return fail(Code::kInvalidArgument,
                    "a target of mean KLD {:g}: the best that these types reach is about {:g}; raise the target",
                    *target.divergence, sum_of(matrices_, best()).divergence);
      chosen = *found;
    }
    Mix mix{.plan = plan_of(chosen), .expected = sum_of(matrices_, chosen), .curve = curve()};
    mix.expected.bytes = TRY(file_bytes_(mix.plan));
    return mix;
  }

 private:
  [[nodiscard]] TypePlan plan_of(const Allocation& allocation) const {
    TypePlan plan = fixed_;
    for (size_t i = 0; i < matrices_.size(); ++i)
      if (const TypeChoice& choice = matrices_[i].choices[allocation[i]]; !choice.stays)
        plan[matrices_[i].name] = choice.type;
    return plan;
  }
  [[nodiscard]] Allocation best() const { return *allocate_bytes(matrices_, std::numeric_limits<uint64_t>::max()); }

  // A file rounds the sizes of its parts up, so that what a budget gives is known only when it has been planned.
  Result<Allocation> within(uint64_t bytes) {
    uint64_t budget = bytes - std::min(bytes, around_);
    while (const auto allocation = allocate_bytes(matrices_, budget)) {
      const uint64_t size = TRY(file_bytes_(plan_of(*allocation)));
      if (size <= bytes) return *allocation;
      if (budget < size - bytes) break;
      budget -= size - bytes;
    }
    return smallest_;
  }

  [[nodiscard]] std::vector<AllocationSum> curve() const {
    const uint64_t least = sum_of(matrices_, smallest_).bytes, most = sum_of(matrices_, best()).bytes;
    std::vector<AllocationSum> points;
    for (int i = 0; i <= kCurvePoints; ++i) {
      const uint64_t budget = least + (most - least) * static_cast<uint64_t>(i) / kCurvePoints;
      AllocationSum sum = sum_of(matrices_, *allocate_bytes(matrices_, budget));
      sum.bytes += around_;
      if (points.empty() || points.back().bytes != sum.bytes) points.push_back(sum);
    }
    return points;
  }

  std::span<const MatrixChoices> matrices_;
  const TypePlan& fixed_;
  const FileBytes& file_bytes_;
  Allocation smallest_;
  uint64_t around_ = 0;  // bytes of the file besides the matrices
};

}  // namespace

Result<Mix> choose_mix(std::span<const MatrixChoices> matrices, const TypePlan& fixed, const MixTarget& target,
                       const FileBytes& file_bytes) {
  if (matrices.empty()) return fail(Code::kInvalidArgument, "no matrix is left whose type could be chosen");
  return Chooser(matrices, fixed, file_bytes).choose(target);
}

Result<Mixed> quantize_mixed(const SourceModel& source, std::span<const MatrixChoices> matrices, const TypePlan& fixed,
                             const MixTarget& target, const FileBytes& file_bytes, Backend& backend,
                             const QuantizeOptions& options) {
  std::optional<Mixed> smallest;
  double aim = target.divergence.value_or(0), nearest = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    MixTarget this_round = target;
    if (target.divergence) this_round.divergence = aim;
    auto mix = choose_mix(matrices, fixed, this_round, file_bytes);
    if (!mix && smallest) break;  // a closer look is not possible
    if (!mix) return std::unexpected(mix.error());
    Mixed mixed{.mix = std::move(*mix), .quantized = {}};
    mixed.quantized = TRY(quantize(source, mixed.mix.plan, backend, options));
    if (!target.divergence) return mixed;
    const double reached = mixed.quantized.divergence.mean();
    nearest = std::min(nearest, reached);
    if (reached <= *target.divergence && (!smallest || mixed.mix.expected.bytes < smallest->mix.expected.bytes))
      smallest = std::move(mixed);
    if (reached <= *target.divergence && reached >= kNearEnough * *target.divergence) break;
    // A little below, as the next round is off again.
    aim *= 0.97 * *target.divergence / reached;
  }
  if (!smallest)
    return fail(Code::kLimit, "a target of mean KLD {:g}: {:g} is the nearest of {} rounds; raise the target",
                *target.divergence, nearest, kRounds);
  return std::move(*smallest);
}

}  // namespace hearth::compress
