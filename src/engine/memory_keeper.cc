#include "engine/memory_keeper.h"

#include <boost/json/array.hpp>

#include "base/log.h"
#include "base/process_memory.h"
#include "base/system_memory.h"
#include "model/memory_budget.h"

namespace hearth {
namespace {

// An excess is believed when those who had to give way have had so long to do it.
constexpr double kPatienceSeconds = 1;
constexpr uint64_t kMargin = 4 << 20;
constexpr uint64_t kExcessPart = 16;  // no more: a long step keeps what it has for as long as it takes

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

MemoryKeeper::MemoryKeeper(MemoryKeeperOptions options, Catalog& catalog)
    : options_(std::move(options)),
      catalog_(catalog),
      policy_(options_.bytes > 0 ? options_.bytes : UINT64_MAX),
      enforced_(options_.asked) {
  bound_ = decide(resident_bytes());
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

MemoryKeeper::~MemoryKeeper() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

Result<void> MemoryKeeper::set_limit(uint64_t bytes) {
  if (bytes < kWorkBytes)
    return fail(Code::kInvalidArgument, "{} bytes of memory: the program alone needs {} MiB", bytes, kWorkBytes >> 20);
  const std::scoped_lock lock(mutex_);
  policy_.ask(bytes);
  enforced_ = look_now_ = true;
  wake_.notify_one();
  return {};
}

void MemoryKeeper::work(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    look();
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, options_.period, [&] { return look_now_; });
    look_now_ = false;
  }
}

uint64_t MemoryKeeper::decide(uint64_t resident) {
  return policy_.decide({.seconds = now(),
                         .resident_bytes = resident,
                         .group_limit_bytes = memory_group_limit(options_.root),
                         .stalled_seconds = memory_stalled_seconds(options_.root)});
}

void MemoryKeeper::look() {
  uint64_t resident = resident_bytes();
  std::unique_lock lock(mutex_);
  const uint64_t bound = decide(resident);
  if (bound != bound_) {
    LOG(kInfo, "memory: {} MiB may be resident, {} MiB before{}{}", bound >> 20, bound_ >> 20,
        policy_.reason().empty() ? "" : ": ", policy_.reason());
    if (bound < bound_) ++n_lowered_;
    enforced_ = true;
    excess_ = 0;
  }
  bound_ = bound;
  reason_ = policy_.reason();
  if (!enforced_) return;
  if (resident > bound) {
    trim_memory();
    resident = resident_bytes();
    if (resident > bound && now() - told_at_ > kPatienceSeconds)
      excess_ = std::min(bound / kExcessPart, excess_ + resident - bound + kMargin);
  }
  const uint64_t tell = bound - std::min(bound, excess_);
  if (tell == told_) return;
  told_ = tell;
  told_at_ = now();
  lock.unlock();
  catalog_.set_memory(tell);
}

uint64_t MemoryKeeper::bound() const {
  const std::scoped_lock lock(mutex_);
  return bound_ == UINT64_MAX ? 0 : bound_;
}

boost::json::object MemoryKeeper::state() const {
  boost::json::array models;
  for (const LoadedState& state : catalog_.loaded()) {
    if (!state.model->engine) continue;
    const EngineStats stats = state.model->engine->stats();
    models.push_back({{"name", state.model->name},
                      {"bytes_max", stats.bytes_max},
                      {"kv_positions_max", stats.kv_positions_max},
                      {"weights_bytes", stats.weight_bytes},
                      {"weights_read_per_pass_bytes", stats.streamed_bytes},
                      {"problem", stats.memory_problem}});
  }
  const ResidentMemory resident = resident_memory();
  const std::scoped_lock lock(mutex_);
  return {{"limit_bytes", policy_.asked_bytes() == UINT64_MAX ? boost::json::value(nullptr) : policy_.asked_bytes()},
          {"bound_bytes", bound_ == UINT64_MAX ? boost::json::value(nullptr) : bound_},
          {"reason", reason_},
          {"resident_bytes", resident.own + resident.files},
          {"resident_own_bytes", resident.own},
          {"models", std::move(models)}};
}

void MemoryKeeper::write_metrics(Exposition& out) const {
  const std::scoped_lock lock(mutex_);
  out.family("hearth_memory_budget_bytes", "gauge", "Memory that may be resident now; 0: no limit");
  out.sample({}, bound_ == UINT64_MAX ? 0 : static_cast<double>(bound_));
  out.family("hearth_memory_lowered_total", "counter", "Times that this bound became less while the server ran");
  out.sample({}, static_cast<double>(n_lowered_));
}

}  // namespace hearth
