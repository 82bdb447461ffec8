#include "model/memory_plan.h"

#include <algorithm>

#include "model/arch/all.h"
#include "model/arch/bert.h"
#include "model/sequence.h"

namespace hearth {

namespace {

constexpr int kUsualContext = 4096;

// All slices' rows as one matrix's.
WeightSource source_of(const TensorRef& tensor) {
  WeightSource source;
  source.type = tensor.type;
  source.cols = static_cast<int64_t>(tensor.shape[0]);
  source.rows = static_cast<int64_t>(tensor.rows());
  return source;
}

// A row of the embedding is next to nothing, but if there is no head it is read as that.
void count_token_bytes(const Checkpoint& checkpoint, Backend& backend, const DecoderConfig& config, MemoryPlan& plan) {
  const bool has_head = std::ranges::any_of(checkpoint.tensors(), [](const TensorRef& tensor) {
    return tensor.name == "output.weight" || tensor.name == "lm_head.weight";
  });
  uint64_t n_experts = 1;
  for (const LayerConfig& layer : config.layers)
    n_experts = std::max(n_experts, static_cast<uint64_t>(layer.n_experts));
  for (const TensorRef& tensor : checkpoint.tensors()) {
    const bool embedding = tensor.name == "token_embd.weight" || tensor.name == "model.embed_tokens.weight";
    if (tensor.n_dims < 2 || (embedding && has_head)) continue;
    const bool experts = tensor.name.contains("_exps.") || tensor.name.contains(".experts.");
    const WeightSource source = source_of(tensor);
    const int64_t n_panels = (source.rows + kPanelRows - 1) / kPanelRows;
    auto read = [&](int64_t bytes) {
      return experts ? static_cast<uint64_t>(bytes) / n_experts * static_cast<uint64_t>(config.n_experts_used)
                     : static_cast<uint64_t>(bytes);
    };
    plan.token_bytes += read(backend.weight_bytes(source));
    plan.token_low_bytes += read(n_panels * info(source.type).panel.low_bytes(source.cols));
  }
}

}  // namespace

Result<MemoryPlan> plan_memory(const Checkpoint& checkpoint, Backend& backend, int context, KvType kv_type,
                               int sequences) {
  MemoryPlan plan;
  for (const TensorRef& tensor : checkpoint.tensors()) {
    if (tensor.n_dims < 2) {
      plan.weight_bytes += tensor.elements() * sizeof(float);  // norms and biases are kept as f32
      continue;
    }
    plan.weight_bytes += static_cast<uint64_t>(backend.weight_bytes(source_of(tensor)));
  }
  if (is_bert(checkpoint)) {  // an encoder keeps nothing of a text
    plan.family = "bert";
    plan.context = plan.context_max = TRY(configure_bert(checkpoint)).tokens_max;
    return plan;
  }
  const Family* family = TRY(find_family(checkpoint));
  const DecoderConfig config = TRY(family->configure(ModelKeys(checkpoint)));
  TRY(check(config));
  count_token_bytes(checkpoint, backend, config, plan);
  plan.family = family->name;
  plan.context_max = config.context_max;
  plan.context = context > 0 ? context : std::min(kUsualContext, config.context_max);
  const auto pages = static_cast<uint64_t>((plan.context + kKvPagePositions - 1) / kKvPagePositions);
  plan.kv_bytes = static_cast<uint64_t>(sequences) * pages *
                  static_cast<uint64_t>(SequenceStore::page_bytes(backend, config, kv_type));
  return plan;
}

}  // namespace hearth
