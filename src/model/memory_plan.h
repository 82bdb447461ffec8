// How much memory a model will take, before it is loaded.
#pragma once

#include <cstdint>
#include <string>

#include "backend/backend.h"
#include "base/result.h"
#include "model/checkpoint.h"

namespace hearth {

// Memory for the weights as the backend lays them out and for the keys and values of full contexts; and what of the weights
// is read for each token that is generated, by how much less at 4 bits (nested matrices, tensor/panel.h).
struct MemoryPlan {
  std::string family;
  int context = 0, context_max = 0;
  uint64_t weight_bytes = 0, kv_bytes = 0;
  uint64_t token_bytes = 0, token_low_bytes = 0;
};

// `context` 0: 4096, or the model's maximum if that is less. `sequences`: how many contexts.
Result<MemoryPlan> plan_memory(const Checkpoint& checkpoint, Backend& backend, int context, KvType kv_type,
                               int sequences = 1);

}  // namespace hearth
