// Mixed precision: a type for each matrix by what it does to the predictions, for a size of the file or a divergence.
#pragma once

#include <functional>
#include <optional>

#include "compress/sensitivity.h"

namespace hearth::compress {

// One of the two.
struct MixTarget {
  std::optional<uint64_t> bytes;     // of the file, at most
  std::optional<double> divergence;  // mean KLD on the judged text in nats, at most
};

struct Mix {
  TypePlan plan;
  AllocationSum expected;            // bytes of the file
  std::vector<AllocationSum> curve;  // what other targets would give, smaller ones first
};

// Size of the file that a plan gives.
using FileBytes = std::function<Result<uint64_t>(const TypePlan&)>;

// `fixed`: types that are given, not chosen. kInvalidArgument if the target cannot be reached, with what can.
Result<Mix> choose_mix(std::span<const MatrixChoices> matrices, const TypePlan& fixed, const MixTarget& target,
                       const FileBytes& file_bytes);

struct Mixed {
  Mix mix;
  Quantized quantized;
};
// Quantises by a mix. Divergences do not quite add up, so a target of divergence is approached in a few rounds: what one measured
// corrects the next. kLimit if none of them is below it.
Result<Mixed> quantize_mixed(const SourceModel& source, std::span<const MatrixChoices> matrices, const TypePlan& fixed,
                             const MixTarget& target, const FileBytes& file_bytes, Backend& backend,
                             const QuantizeOptions& options);

}  // namespace hearth::compress
