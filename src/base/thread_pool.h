// A fixed set of worker threads that share loops with the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/function_ref.h"
#include "base/topology.h"

namespace hearth {

// Owned by whoever drives an engine; two pools in one process are allowed. parallel_for() is called by one thread at a time.
//
// Made for loops of some ten microseconds, thousands of times a second, on a machine that others use too. Nobody waits for a
// worker that has not begun: the loop ends when its pieces are done, whoever did them, so a worker that the system has
// put aside costs at most the piece it is in. Workers keep off the core the caller is on. Waiting threads spin for a while
// that adapts: waits that last make it shorter, since somebody else can use the core.
class ThreadPool {
 public:
  using Body = FunctionRef<void(int64_t begin, int64_t end, int thread)>;

  // `n_threads` counts the caller: 1 means no workers. Workers stay on `cores`, which the caller may do, too.
  explicit ThreadPool(int n_threads, const FastCores& cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int n_threads() const { return n_threads_; }
  // From the next loop on only the first `n` work, 1 to n_threads(); the others sleep. By the caller of parallel_for().
  void use(int n);
  // From the next loop on workers stay on these, as the system numbers them; between loops. Those that a cpu_set_t has no room for do
  // not count, and without any that counts nothing changes.
  void stay_on(std::span<const int> cpus);
  // Keeps the calling thread there as well; false: nobody has said where.
  bool keep_caller() const;

  // Splits [0, count) into pieces of `grain` and returns when all are done. Each thread (0 is the caller) has a contiguous
  // region, which it works through in order; one that has finished takes pieces from the end of another's. Which
  // thread gets a piece is not determined, so a piece's result may not depend on it. body may not throw, nor loop itself.
  void parallel_for(int64_t count, int64_t grain, Body body);

 private:
  // Pieces [begin, end) that nobody has taken yet, in one word with the loop they belong to: [generation 32][begin 16]
  // [end 16]. So a late worker can take nothing from a loop it does not know.
  struct alignas(64) Region {
    std::atomic<uint64_t> pieces{0};
  };
  struct Loop {
    const Body* body;
    int64_t count, grain;
  };

  void work(int thread, const FastCores& cores);
  void take_part(uint32_t generation, int thread);
  static int64_t take(Region& region, uint32_t generation, bool own);

  int n_threads_;
  std::unique_ptr<Region[]> regions_;
  Loop loop_{};  // written between loops, read by whoever holds a piece
  int64_t caller_spin_ns_;
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<int> caller_cpu_{-1};
  std::atomic<int> used_;  // threads that take part
  std::atomic<bool> stop_{false};
  mutable std::mutex cpus_mutex_;
  std::vector<int> cpus_;  // to stay on, if cpus_version_ is not 0
  std::atomic<int> cpus_version_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};  // pieces
  std::vector<std::jthread> workers_;                // last: they use all of the above
};

}  // namespace hearth
