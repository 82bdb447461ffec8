#include "model/memory_plan.h"

#include <algorithm>

#include "model/arch/all.h"
#include "model/arch/bert.h"
#include "model/sequence.h"

namespace hearth {

constexpr int kUsualContext = 4096;

Result<MemoryPlan> plan_memory(const Checkpoint& checkpoint, Backend& backend, int context, KvType kv_type,
                               int sequences) {
  MemoryPlan plan;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    if (tensor.n_dims < 2) {
      plan.weight_bytes += tensor.elements() * sizeof(float);  // norms and biases are kept as f32
      continue;
    }
    WeightSource source;
    source.type = tensor.type;
    source.cols = static_cast<int64_t>(tensor.shape[0]);
    source.rows = static_cast<int64_t>(tensor.rows());
    plan.weight_bytes += static_cast<uint64_t>(backend.weight_bytes(source));
  }
  if (is_bert(checkpoint)) {  // an encoder keeps nothing of a text
    plan.family = "bert";
    plan.context = plan.context_max = TRY(configure_bert(checkpoint)).tokens_max;
    return plan;
  }
  const Family* family = TRY(find_family(checkpoint));
  const DecoderConfig config = TRY(family->configure(ModelKeys(checkpoint)));
  TRY(check(config));
  plan.family = family->name;
  plan.context_max = config.context_max;
  plan.context = context > 0 ? context : std::min(kUsualContext, config.context_max);
  const auto pages = static_cast<uint64_t>((plan.context + kKvPagePositions - 1) / kKvPagePositions);
  plan.kv_bytes = static_cast<uint64_t>(sequences) * pages *
                  static_cast<uint64_t>(SequenceStore::page_bytes(backend, config, kv_type));
  return plan;
}

}  // namespace hearth
