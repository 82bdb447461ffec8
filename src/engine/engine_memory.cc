// What gives way when an engine has to do with less memory, and comes back when there is more.
#include <algorithm>

#include "base/log.h"
#include "base/process_memory.h"
#include "engine/engine_active.h"
#include "model/memory_budget.h"

namespace hearth {

void Engine::set_memory(uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  if (bytes == wanted_bytes_.value_or(stats_.bytes_max)) return;
  wanted_bytes_ = bytes;
  news_ = true;
  wake_.notify_one();
}

// All that a request will have when it has ended.
int Engine::pages_to_end(const Active& active) const {
  const auto prompt = static_cast<int>(active.request.prompt.size());
  const int context = model_.decoder->context();
  const int most = active.request.max_tokens < 0 ? context : std::min(context - prompt, active.request.max_tokens);
  return SequenceStore::pages_for(std::min(context, prompt + most)) + 1;
}

// Between steps.
void Engine::fit_memory() {
  uint64_t bytes = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (!wanted_bytes_) return;
    bytes = *std::exchange(wanted_bytes_, std::nullopt);
    stats_.bytes_max = bytes;
  }
  const auto done = fit_into(bytes);
  if (!done) LOG(kWarning, "{} MiB of memory for a model: {}", bytes >> 20, done.error().message);
  {
    const std::scoped_lock lock(mutex_);
    stats_.memory_problem = done ? "" : done.error().message;
  }
  publish_stats(0);
}

Result<void> Engine::fit_into(uint64_t bytes) {
  if (options_.chain) return {};  // what there is of it here is not much
  const Decoder& decoder = *model_.decoder;
  constexpr int kLeastPages = 4;
  const int context_pages = SequenceStore::pages_for(decoder.context());
  int longest = std::min(kLeastPages, context_pages + 1);
  for (const auto& active : active_) longest = std::max(longest, pages_to_end(*active));
  const uint64_t beside = static_cast<uint64_t>(decoder.scratch_bytes() + draft_bytes());
  const auto all = model_.checkpoint->packed()
                       ? TRY(WeightStream::plan(*model_.checkpoint, *model_.backend, UINT64_MAX)).resident_bytes
                       : static_cast<uint64_t>(decoder.weight_bytes());
  const RunningNeeds needs{
      .weight_bytes = all,
      .page_bytes = static_cast<uint64_t>(store_->page_bytes()),
      .pages_max = context_pages * options_.parallel + store_->sequences_max(),
      .pages_one = context_pages + 1,
      .pages_least = longest,
      .weights = [&](uint64_t most) { return WeightStream::plan(*model_.checkpoint, *model_.backend, most); }};
  const RunningFit fit = TRY(fit_running(needs, bytes - std::min(bytes, beside)));
  keep_to_pages(fit.pages);
  TRY(bound_weights(model_, fit.weight_bytes));
  trim_memory();
  return {};
}

}  // namespace hearth
