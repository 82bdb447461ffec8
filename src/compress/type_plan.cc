#include "compress/type_plan.h"

#include <algorithm>

namespace hearth::compress {

std::vector<const PlannedTensor*> quantised_matrices(const SourceModel& source) {
  std::vector<const PlannedTensor*> out;
  for (const PlannedTensor& tensor : source.tensors())
    if (!tensor.matrix.data.empty() && tensor.name.find("ffn_gate_inp") == std::string::npos) out.push_back(&tensor);
  return out;
}

TypePlan uniform_plan(const SourceModel& source, const TypeInfo& type, const TypeInfo& head,
                      std::span<const std::string> keep) {
  TypePlan plan;
  for (const PlannedTensor* tensor : quantised_matrices(source))
    if (std::ranges::none_of(keep, [&](const std::string& part) { return tensor->name.contains(part); }))
      plan[tensor->name] = tensor == &source.head() ? &head : &type;
  return plan;
}

const TypeInfo& usual_head_type(const SourceModel& source, const TypeInfo& type) {
  if (type.panel.code_bits() >= 8) return type;
  return info(row_bytes(info(Type::kQ6_K), source.head().shape[0]) ? Type::kQ6_K : Type::kQ8_0);
}

}  // namespace hearth::compress
