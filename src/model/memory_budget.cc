#include "model/memory_budget.h"

#include <algorithm>
#include <climits>
#include <memory>

#include "model/arch/all.h"
#include "model/memory_plan.h"
#include "model/sequence.h"

namespace hearth {
namespace {

constexpr int kLeastContext = 256;

enum class GivesWay : uint8_t { kNothing, kKeysAndValues, kWeights };

Result<MemoryFit> fit_with(const MemoryNeeds& needs, const MemoryWish& wish, KvType type, GivesWay gives,
                           uint64_t bytes) {
  const uint64_t page = needs.kv_bytes(type, kKvPagePositions), one = needs.kv_bytes(type, wish.context);
  MemoryFit fit{.context = wish.context,
                .parallel = wish.parallel,
                .kv_type = type,
                .program_bytes = needs.program_bytes,
                .kv_bytes = gives == GivesWay::kWeights ? one : one * static_cast<uint64_t>(wish.parallel),
                .weights = {}};
  const uint64_t left = bytes - std::min(bytes, fit.program_bytes + needs.weight_bytes);
  if (gives == GivesWay::kKeysAndValues && left >= one) fit.kv_bytes = left / page * page;
  fit.kv_pages = static_cast<int>(fit.kv_bytes / std::max<uint64_t>(page, 1));
  const uint64_t before = fit.program_bytes + fit.kv_bytes;
  if (before + needs.weight_bytes <= bytes) {
    fit.weights.resident_bytes = needs.weight_bytes;
    return fit;
  }
  if (gives != GivesWay::kWeights || !needs.weights || before > bytes)
    return fail(Code::kLimit, "{} bytes are too few", bytes);
  fit.weights = TRY(needs.weights(bytes - before));
  return fit;
}

// The fewest bytes for weights that can be streamed.
uint64_t least_weights(const std::function<Result<StreamPlan>(uint64_t)>& plan, uint64_t all) {
  uint64_t low = 0, high = all;
  while (plan && high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (plan(middle) ? high : low) = middle;
  }
  return high;
}

Result<MemoryFit> fit_as_wished(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  for (const KvType type : wish.kv_types)
    if (auto fit = fit_with(needs, wish, type, GivesWay::kNothing, bytes)) return fit;
  if (auto fit = fit_with(needs, wish, wish.kv_types.back(), GivesWay::kKeysAndValues, bytes)) return fit;
  return fit_with(needs, wish, wish.kv_types.back(), GivesWay::kWeights, bytes);
}

}  // namespace

std::optional<MemoryFit> nearest_fit(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  MemoryWish smaller = wish;
  while (true) {
    if (auto fit = fit_as_wished(needs, smaller, bytes)) return *fit;
    if (smaller.context > kLeastContext)
      smaller.context = std::max(kLeastContext, smaller.context / 2);
    else
      return std::nullopt;
  }
}

Result<MemoryFit> fit_memory(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes) {
  if (auto fit = fit_as_wished(needs, wish, bytes)) return fit;
  // The least: the smallest keys and values of one conversation, and as much as goes of the weights streamed.
  const uint64_t kv = needs.kv_bytes(wish.kv_types.back(), wish.context);
  const uint64_t weights = least_weights(needs.weights, needs.weight_bytes);
  const auto nearest = nearest_fit(needs, wish, bytes);
  return fail(Code::kLimit, "{} MiB of memory are too few for {} positions: {} MiB would do{}", bytes >> 20,
              wish.context, (needs.program_bytes + kv + weights + (1 << 20) - 1) >> 20,
              nearest ? fmt::format("; with {} MiB, {} positions fit (--context {})", bytes >> 20, nearest->context,
                                    nearest->context)
                      : std::string("; use a smaller model, or one of fewer bits (hearth quantize)"));
}

Result<RunningFit> fit_running(const RunningNeeds& needs, uint64_t bytes) {
  const auto bytes_of = [&](int pages) { return needs.page_bytes * static_cast<uint64_t>(pages); };
  const auto fit_with = [&](uint64_t weight_bytes) {
    const uint64_t left = bytes - weight_bytes;
    const uint64_t pages = needs.page_bytes > 0 ? left / needs.page_bytes : INT_MAX;
    return RunningFit{static_cast<int>(std::min<uint64_t>(pages, static_cast<uint64_t>(needs.pages_max))),
                      weight_bytes};
  };
  if (needs.weight_bytes + bytes_of(needs.pages_one) <= bytes) return fit_with(needs.weight_bytes);
  if (const uint64_t left = bytes - std::min(bytes, bytes_of(needs.pages_one)); needs.weights(left))
    return RunningFit{needs.pages_one, left};
  const uint64_t least = least_weights(needs.weights, needs.weight_bytes);
  if (least + bytes_of(needs.pages_least) <= bytes) return fit_with(least);
  return fail(Code::kLimit, "{} bytes are too few: weights have to have {}, and {} positions that are in use {}", bytes,
              least, needs.pages_least * kKvPagePositions, bytes_of(needs.pages_least));
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
