#include "compress/type_plan.h"

#include <algorithm>

namespace hearth::compress {

std::vector<const PlannedTensor*> quantised_matrices(const SourceModel& source) {
  std::vector<const PlannedTensor*> out;
  for (const PlannedTensor& tensor : source.tensors())
    if (!tensor.matrix.data.empty() && tensor.name.find("ffn_gate_inp") == std::string::npos) out.push_back(&tensor);
  return out;
}

const TypeRule* rule_for(std::span<const TypeRule> rules, std::string_view name) {
  const TypeRule* found = nullptr;
  for (const TypeRule& rule : rules)
    if (name.contains(rule.part)) found = &rule;
  return found;
}

TypePlan uniform_plan(const SourceModel& source, const TypeInfo& type, const TypeInfo& head,
                      std::span<const TypeRule> rules) {
  TypePlan plan;
  for (const PlannedTensor* tensor : quantised_matrices(source)) {
    const TypeRule* rule = rule_for(rules, tensor->name);
    if (!rule)
      plan[tensor->name] = tensor == &source.head() ? &head : &type;
    else if (rule->type)
      plan[tensor->name] = rule->type;
  }
  return plan;
}

std::span<const TypeInfo* const> mixed_types(bool gguf) {
  static const std::array own{&info(Type::kI4), &info(Type::kI5), &info(Type::kI6), &info(Type::kI8)};
  static const std::array of_gguf{&info(Type::kIQ4_XS), &info(Type::kIQ4_NL), &info(Type::kQ4_K), &info(Type::kQ5_0),
                                  &info(Type::kQ5_K),   &info(Type::kQ5_1),   &info(Type::kQ6_K), &info(Type::kQ8_0)};
  return gguf ? std::span<const TypeInfo* const>(of_gguf) : own;
}

const TypeInfo& usual_head_type(const SourceModel& source, const TypeInfo& type) {
  if (type.panel.code_bits() >= 8) return type;
  return info(row_bytes(info(Type::kQ6_K), source.head().shape[0]) ? Type::kQ6_K : Type::kQ8_0);
}

}  // namespace hearth::compress
