// What `hearth inspect` says about a model: gathered once, written as text or as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "model/memory_plan.h"

namespace hearth::cli {

// Elements and bytes of tensors that belong together.
struct Share {
  uint64_t tensors = 0, elements = 0, bytes = 0;
  // As the file stores them, scales included.
  [[nodiscard]] double bits_per_weight() const;
};

struct InspectReport {
  Share all;
  std::map<std::string, Share> by_kind;  // embedding, attention, feed-forward, experts, norm, output, other
  std::map<std::string, Share> by_type;
  Result<MemoryPlan> memory;  // the reason if the family is not known
};

// `context` 0: 4096, or the model's maximum if that is less.
InspectReport inspect_checkpoint(const Checkpoint& checkpoint, Backend& backend, int context, KvType kv_type);

// "attention" and so on, from a tensor's name in either form of file.
std::string_view tensor_kind(std::string_view name);

std::string to_text(const Checkpoint& checkpoint, const InspectReport& report, bool with_tensors);
std::string to_json(const Checkpoint& checkpoint, const InspectReport& report);

}  // namespace hearth::cli
