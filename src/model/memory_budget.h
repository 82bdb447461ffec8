// One bound for all memory of a process: what fits, and what gives way.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "model/weight_stream.h"

namespace hearth {

// Room for what nobody plans: scratch of steps, stacks of threads, what requests hold while they run.
inline constexpr uint64_t kWorkBytes = 48 << 20;

// What has to be in memory at once.
struct MemoryNeeds {
  uint64_t program_bytes = 0;  // code, vocabulary, scratch: all but weights and contexts
  uint64_t weight_bytes = 0;   // all of them
  std::function<Result<StreamPlan>(uint64_t bytes_max)> weights;  // which of them stay; empty: they cannot be streamed
  std::function<uint64_t(KvType type, int context)> kv_bytes;     // of one sequence
};

struct MemoryWish {
  int context = 0, parallel = 1;
  std::vector<KvType> kv_types;  // that may be used, the most exact first; at least one
};

struct MemoryFit {
  int context = 0, parallel = 1;
  KvType kv_type = KvType::kF16;
  uint64_t program_bytes = 0, kv_bytes = 0;
  // Pages of keys and values that are in memory at once; of those that run beside each other some wait, or are on disk, where that is less
  // than all may have.
  int kv_pages = 0;
  StreamPlan weights;
  [[nodiscard]] uint64_t total_bytes() const { return program_bytes + kv_bytes + weights.resident_bytes; }
};

// Pure. Gives way in this order: the type of keys and values; how many of them are in memory at once, as long as one conversation fits;
// weights, which are streamed. kLimit, with the least bytes that would do and the nearest wish that fits, if all that is not enough.
Result<MemoryFit> fit_memory(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes);
// The nearest smaller wish that fits: shorter contexts. Nothing if not even 256 positions do.
std::optional<MemoryFit> nearest_fit(const MemoryNeeds& needs, const MemoryWish& wish, uint64_t bytes);

// A model that runs, and how it is to run with so many bytes for its weights, keys and values.
struct RunningNeeds {
  uint64_t weight_bytes = 0, page_bytes = 0;  // of all weights; of a page of keys and values
  // Of all conversations; of one as long as it may be; of the longest there is, which has to be able to go on.
  int pages_max = 0, pages_one = 0, pages_least = 0;
  std::function<Result<StreamPlan>(uint64_t bytes_max)> weights;
};
struct RunningFit {
  int pages = 0;
  uint64_t weight_bytes = 0;
};
// Pure. Pages give way first, as long as one conversation fits; then weights are streamed; then long conversations are given up.
// kLimit, with what would do, if that is not enough.
Result<RunningFit> fit_running(const RunningNeeds& needs, uint64_t bytes);

// Needs of a checkpoint beside a program that has taken `program_bytes` so far.
Result<MemoryNeeds> memory_needs(const Checkpoint& checkpoint, Backend& backend, uint64_t program_bytes);

}  // namespace hearth
