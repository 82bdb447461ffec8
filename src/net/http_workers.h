// The threads that run handlers.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hearth {

// Any thread may post. Jobs of one Lane run one after the other in the order of posting, on any worker.
class HttpWorkers {
 public:
  // Held by whoever posts, by shared_ptr. All members are the workers' own.
  struct Lane {
    std::deque<std::function<void()>> jobs;
    bool queued = false;  // waits for a worker or is at one
  };

  explicit HttpWorkers(int n_threads);
  ~HttpWorkers() { close(); }
  HttpWorkers(const HttpWorkers&) = delete;
  HttpWorkers& operator=(const HttpWorkers&) = delete;

  void post(const std::shared_ptr<Lane>& lane, std::function<void()> job);
  // For a job that has to wait for something: runs `wait` on this worker, and meanwhile another one takes its place (at most
  // kWaitersMax do).
  void stand_in_for(const std::function<void()>& wait);
  // Waits for the jobs that run, drops the others and refuses later ones. Not from a worker.
  void close();

 private:
  static constexpr size_t kWaitersMax = 64;

  void work();

  const size_t n_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  size_t busy_ = 0;  // workers with a job, those that wait not counted
  size_t waiting_ = 0;
  std::deque<std::shared_ptr<Lane>> ready_;
  bool closed_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace hearth
