// What each matrix's rounding alone does to a model's predictions.
#pragma once

#include "compress/allocation.h"
#include "compress/quantize.h"

namespace hearth::compress {

// For each of the matrices its choices: the types, smaller ones first, and to stay as it is where the source is quantised already.
// Nothing is measured yet. kInvalidArgument naming a matrix whose rows no type can hold.
Result<std::vector<MatrixChoices>> choices_of(std::span<const PlannedTensor* const> matrices,
                                              std::span<const TypeInfo* const> types);

// The same with their divergences. Embedding and head and the first type
// of every other matrix are measured: all of the model runs as the source has it but for this one matrix, over one piece of the
// judged text. What the other types would do follows from their rounding errors: divergence grows with the square of small errors.
// Of the options calibration and judged are needed. Memory: one layer in floats, and the stream of the piece for every matrix.
Result<std::vector<MatrixChoices>> measure(const SourceModel& source, std::span<const PlannedTensor* const> matrices,
                                           std::span<const TypeInfo* const> types, Backend& backend,
                                           const QuantizeOptions& options);

}  // namespace hearth::compress
