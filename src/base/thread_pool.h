// A fixed set of worker threads that share loops with the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace hearth {

// Owned by whoever drives an engine; two pools in one process are allowed. run() is called by one thread at a time.
class ThreadPool {
 public:
  // `n_threads` counts the caller: 1 means no workers.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(thread) once on each thread, 0 being the caller, and returns when all are done. body may not throw.
  // Cost: a spin of some microseconds; a worker that waits for longer sleeps.
  void run(const std::function<void(int thread)>& body);

  // Splits [0, count) into pieces of `grain` handed out in order to whichever thread is free; body(begin, end, thread).
  // Which thread gets a piece is not determined, so a piece's result may not depend on it.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end, int thread)>& body);

 private:
  void work(int thread);

  std::vector<std::jthread> workers_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<uint32_t> generation_{0};
  std::atomic<int> running_{0};
  std::atomic<bool> stop_{false};
};

// Physical cores this process may run on; what --threads defaults to.
int default_thread_count();

}  // namespace hearth
