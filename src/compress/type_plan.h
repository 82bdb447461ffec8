// Which matrix of a model gets which type.
#pragma once

#include "compress/quantize.h"

namespace hearth::compress {

// The matrices that are worth quantising: all but the routers of mixtures, which are small and decide much.
std::vector<const PlannedTensor*> quantised_matrices(const SourceModel& source);

// One type for all, another for the matrix that gives the logits. Matrices whose name contains one of `keep` stay as the
// source has them.
TypePlan uniform_plan(const SourceModel& source, const TypeInfo& type, const TypeInfo& head,
                      std::span<const std::string> keep);

// What llama.cpp gives the head in files of its types, so that such files are of one size: Q6_K if its rows are multiples of 256, Q8_0
// if not; for types of 8 bits and more the type itself. Types of our own follow the same rule.
const TypeInfo& usual_head_type(const SourceModel& source, const TypeInfo& type);

}  // namespace hearth::compress
