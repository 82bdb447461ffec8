#include "model/memory_budget.h"

#include <algorithm>
#include <memory>

#include "model/arch/all.h"
#include "model/memory_plan.h"
#include "model/sequence.h"

namespace hearth {
namespace {

constexpr int kLeastContext = 256;
// Scratch of steps, stacks of threads, what requests hold while they run.
constexpr uint64_t kWorkBytes = 40 << 20;

Result<MemoryFit> fit_with(const MemoryNeeds& needs, const MemoryWish& wish, KvType type, bool stream, uint64_t bytes) {
  MemoryFit fit{.context = wish.context,
                .parallel = wish.parallel,
                .kv_type = type,
                .program_bytes = needs.program_bytes,
                .kv_bytes = needs.kv_bytes(type, wish.context) * static_cast<uint64_t>(wish.parallel),
                .weights = {}};
  const uint64_t before = fit.program_bytes + fit.kv_bytes;
  if (before + needs.weight_bytes <= bytes) {
    fit.weights.resident_bytes = needs.weight_bytes;
    return fit;
  }
  if (!stream || !needs.weights || before > bytes) return fail(Code::kLimit, "{} bytes are too few", bytes);
  fit.weights = TRY(needs.weights(bytes - before));
  return fit;
}

Result<MemoryFit> fit_as_wished(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  for (const KvType type : wish.kv_types)
    if (auto fit = fit_with(needs, wish, type, false, bytes)) return fit;
  return fit_with(needs, wish, wish.kv_types.back(), true, bytes);
}

}  // namespace

std::optional<MemoryFit> nearest_fit(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  MemoryWish smaller = wish;
  while (true) {
    if (auto fit = fit_as_wished(needs, smaller, bytes)) return *fit;
    if (smaller.parallel > 1)
      --smaller.parallel;
    else if (smaller.context > kLeastContext)
      smaller.context = std::max(kLeastContext, smaller.context / 2);
    else
      return std::nullopt;
  }
}

Result<MemoryFit> fit_memory(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  if (auto fit = fit_as_wished(needs, wish, bytes)) return fit;
  // The least: the smallest keys and values, and as much as goes of the weights streamed.
  const uint64_t kv = needs.kv_bytes(wish.kv_types.back(), wish.context) * static_cast<uint64_t>(wish.parallel);
  uint64_t low = 0, high = needs.weight_bytes;
  while (needs.weights && high - low > 4096) {
    const uint64_t middle = low + (high - low) / 2;
    (needs.weights(middle) ? high : low) = middle;
  }
  const auto nearest = nearest_fit(needs, wish, bytes);
  return fail(Code::kLimit, "{} MiB of memory are too few for {} x {} positions: {} MiB would do{}", bytes >> 20,
              wish.parallel, wish.context, (needs.program_bytes + kv + high + (1 << 20) - 1) >> 20,
              nearest ? fmt::format("; with {} MiB, {} x {} positions fit (--parallel {} --context {})", bytes >> 20,
                                    nearest->parallel, nearest->context, nearest->parallel, nearest->context)
                      : std::string("; use a smaller model, or one of fewer bits (hearth quantize)"));
}

Result<MemoryNeeds> memory_needs(const Checkpoint& checkpoint, Backend& backend, uint64_t program_bytes) {
  const MemoryPlan plan = TRY(plan_memory(checkpoint, backend, 1, KvType::kF16));
  const Family* family = TRY(find_family(checkpoint));
  DecoderConfig configured = TRY(family->configure(ModelKeys(checkpoint)));
  const auto config = std::make_shared<const DecoderConfig>(std::move(configured));
  MemoryNeeds needs{
      .program_bytes = program_bytes + kWorkBytes, .weight_bytes = plan.weight_bytes, .weights = {}, .kv_bytes = {}};
  needs.kv_bytes = [config, &backend](KvType type, int context) {
    const auto pages = static_cast<uint64_t>((context + kKvPagePositions - 1) / kKvPagePositions);
    return pages * static_cast<uint64_t>(SequenceStore::page_bytes(backend, *config, type));
  };
  needs.weights = [&checkpoint, &backend](uint64_t bytes_max) {
    return WeightStream::plan(checkpoint, backend, bytes_max);
  };
  return needs;
}

}  // namespace hearth
