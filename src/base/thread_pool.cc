#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <iterator>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hearth {
namespace {

using Clock = std::chrono::steady_clock;

// The longest wait before a thread sleeps bridges what lies between two loops of a step; the shortest is about what
// going to sleep and being woken costs.
constexpr int64_t kSpinMaxNs = 100'000, kSpinMinNs = 3'000;
constexpr int64_t kPiecesMax = 0xffff;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `done`, at most `spin_ns`, then calls sleep(), which returns when it is done; and adapts `spin_ns`: waits that
// spinning would have bridged make it longer, those that were much longer make it shorter.
template <typename Done, typename Sleep>
void wait_until(Done done, Sleep sleep, int64_t& spin_ns) {
  constexpr int kBetweenLooks = 32;  // at the clock
  auto spin = [&] {
    for (int i = 0; i < kBetweenLooks; ++i) {
      if (done()) return true;
      relax();
    }
    return false;
  };
  if (spin()) return;
  const auto begun = Clock::now();
  auto waited_ns = [&] { return std::chrono::nanoseconds(Clock::now() - begun).count(); };
  while (!spin()) {
    if (waited_ns() < spin_ns) continue;
    sleep();
    break;
  }
  const int64_t waited = waited_ns();
  spin_ns =
      waited < kSpinMaxNs ? std::min(kSpinMaxNs, std::max(spin_ns, 2 * waited)) : std::max(kSpinMinNs, spin_ns / 2);
}

// The hardware threads the calling thread may run on.
cpu_set_t allowed_set() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  (void)::sched_getaffinity(0, sizeof allowed, &allowed);
  return allowed;
}

// Moves the calling thread to any other of those; nothing if there is none.
void leave_cpu(int cpu, cpu_set_t allowed) {
  CPU_CLR(cpu, &allowed);
  if (CPU_COUNT(&allowed) > 0) (void)::sched_setaffinity(0, sizeof allowed, &allowed);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads, const FastCores& cores)
    : n_threads_(n_threads),
      regions_(std::make_unique<Region[]>(static_cast<size_t>(n_threads))),
      caller_spin_ns_(kSpinMaxNs),
      used_(n_threads) {
  for (int thread = 1; thread < n_threads; ++thread)
    workers_.emplace_back([this, thread, cores] { work(thread, cores); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  use(n_threads_);
  generation_.fetch_add(1);
  generation_.notify_all();
}

void ThreadPool::use(int n) {
  if (used_.exchange(n) != n) used_.notify_all();
}

void ThreadPool::stay_on(std::span<const int> cpus) {
  const auto counts = [](int cpu) { return cpu >= 0 && cpu < CPU_SETSIZE; };
  if (std::ranges::none_of(cpus, counts)) return;
  const std::scoped_lock lock(cpus_mutex_);
  cpus_.clear();
  std::ranges::copy_if(cpus, std::back_inserter(cpus_), counts);
  cpus_version_.fetch_add(1, std::memory_order_release);
}

bool ThreadPool::keep_caller() const {
  if (cpus_version_.load(std::memory_order_acquire) == 0) return false;
  cpu_set_t set;
  CPU_ZERO(&set);
  const std::scoped_lock lock(cpus_mutex_);
  for (const int cpu : cpus_) CPU_SET(cpu, &set);
  (void)::sched_setaffinity(0, sizeof set, &set);
  return true;
}

void ThreadPool::work(int thread, const FastCores& cores) {
  keep_on(cores, n_threads_);
  cpu_set_t allowed = allowed_set();
  int version = 0;
  uint32_t seen = 0;
  int64_t spin_ns = kSpinMaxNs;
  for (;;) {
    for (int used = used_.load(); thread >= used; used = used_.load()) used_.wait(used);
    wait_until([&] { return generation_.load(std::memory_order_acquire) != seen; },
               [&] { generation_.wait(seen, std::memory_order_acquire); }, spin_ns);
    // In this order: whoever has seen the last generation sees that it is the last.
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    if (const int newest = cpus_version_.load(std::memory_order_acquire); newest != version) {
      version = newest;
      keep_caller();
      allowed = allowed_set();
    }
    // When the other cores are busy, the system wakes a thread where its waker runs, which here goes on running.
    const int caller = caller_cpu_.load(std::memory_order_relaxed);
    if (caller >= 0 && caller == ::sched_getcpu()) leave_cpu(caller, allowed);
    take_part(seen, thread);
  }
}

// The number of a piece, -1 if there is none left.
int64_t ThreadPool::take(Region& region, uint32_t generation, bool own) {
  uint64_t pieces = region.pieces.load(std::memory_order_acquire);
  for (;;) {
    const uint64_t begin = pieces >> 16 & 0xffff, end = pieces & 0xffff;
    if (pieces >> 32 != generation || begin >= end) return -1;
    const uint64_t left = own ? pieces + (1 << 16) : pieces - 1;
    if (region.pieces.compare_exchange_weak(pieces, left, std::memory_order_acquire, std::memory_order_acquire))
      return static_cast<int64_t>(own ? begin : end - 1);
  }
}

void ThreadPool::take_part(uint32_t generation, int thread) {
  uint32_t finished = 0;
  for (int i = 0; i < n_threads_; ++i) {
    Region& region = regions_[static_cast<size_t>((thread + i) % n_threads_)];
    for (int64_t piece = take(region, generation, i == 0); piece >= 0; piece = take(region, generation, i == 0)) {
      const int64_t begin = piece * loop_.grain;  // a loop does not end, nor loop_ change, while a piece is held
      (*loop_.body)(begin, std::min(begin + loop_.grain, loop_.count), thread);
      ++finished;
    }
  }
  if (finished > 0 && unfinished_.fetch_sub(finished, std::memory_order_acq_rel) == finished) unfinished_.notify_one();
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, Body body) {
  if (count <= 0) return;
  const int n_threads = used_.load(std::memory_order_relaxed);
  if (n_threads == 1 || count <= grain) return body(0, count, 0);
  grain = std::max(grain, count / kPiecesMax + 1);
  const int64_t n_pieces = (count + grain - 1) / grain;
  loop_ = {&body, count, grain};
  unfinished_.store(static_cast<uint32_t>(n_pieces), std::memory_order_relaxed);
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  for (int thread = 0; thread < n_threads; ++thread) {
    const auto begin = static_cast<uint64_t>(thread * n_pieces / n_threads);
    const auto end = static_cast<uint64_t>((thread + 1) * n_pieces / n_threads);
    regions_[static_cast<size_t>(thread)].pieces.store(uint64_t{generation} << 32 | begin << 16 | end,
                                                       std::memory_order_release);
  }
  caller_cpu_.store(::sched_getcpu(), std::memory_order_relaxed);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  take_part(generation, 0);
  wait_until([&] { return unfinished_.load(std::memory_order_acquire) == 0; },
             [&] {
               for (uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
                    left = unfinished_.load(std::memory_order_acquire))
                 unfinished_.wait(left, std::memory_order_acquire);
             },
             caller_spin_ns_);
}

}  // namespace hearth
