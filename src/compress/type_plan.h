// Which matrix of a model gets which type.
#pragma once

#include "compress/quantize.h"

namespace hearth::compress {

// The matrices that are worth quantising: all but the routers of mixtures, which are small and decide much.
std::vector<const PlannedTensor*> quantised_matrices(const SourceModel& source);

// What a user wants of single matrices: those whose name contains `part` get the type, or stay as the source has them (null). Of
// several that fit a name the last counts.
struct TypeRule {
  std::string part;
  const TypeInfo* type = nullptr;
};
const TypeRule* rule_for(std::span<const TypeRule> rules, std::string_view name);

// One type for all, another for the matrix that gives the logits, and what the rules say.
TypePlan uniform_plan(const SourceModel& source, const TypeInfo& type, const TypeInfo& head,
                      std::span<const TypeRule> rules);

// What a mix is made of, smaller ones first: types of our own, or GGUF's.
std::span<const TypeInfo* const> mixed_types(bool gguf);

// What llama.cpp gives the head in files of its types, so that such files are of one size: Q6_K if its rows are multiples of 256, Q8_0
// if not; for types of 8 bits and more the type itself. Types of our own follow the same rule.
const TypeInfo& usual_head_type(const SourceModel& source, const TypeInfo& type);

}  // namespace hearth::compress
