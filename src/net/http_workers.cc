#include "net/http_workers.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/log.h"

namespace hearth {

HttpWorkers::HttpWorkers(int n_threads) : n_threads_(static_cast<size_t>(n_threads)) {
  for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this] { work(); });
}

void HttpWorkers::post(const std::shared_ptr<Lane>& lane, std::function<void()> job) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    lane->jobs.push_back(std::move(job));
    if (lane->queued) return;
    lane->queued = true;
    ready_.push_back(lane);
  }
  wake_.notify_one();
}

void HttpWorkers::stand_in_for(const std::function<void()>& wait) {
  {
    const std::scoped_lock lock(mutex_);
    --busy_;
    ++waiting_;
    if (!closed_ && threads_.size() < n_threads_ + std::min(waiting_, kWaitersMax))
      threads_.emplace_back([this] { work(); });
  }
  wake_.notify_one();
  wait();
  const std::scoped_lock lock(mutex_);
  ++busy_;
  --waiting_;
}

void HttpWorkers::close() {
  std::deque<std::shared_ptr<Lane>> dropped;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    dropped.swap(ready_);
  }
  wake_.notify_all();
  threads_.clear();
  // Jobs may hold what holds their lane.
  for (const auto& lane : dropped) std::exchange(lane->jobs, {}).clear();
}

void HttpWorkers::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return closed_ || (!ready_.empty() && busy_ < n_threads_); });
    if (closed_) return;
    ++busy_;
    std::shared_ptr<Lane> lane = std::move(ready_.front());
    ready_.pop_front();
    std::function<void()> job = std::move(lane->jobs.front());
    lane->jobs.pop_front();
    lock.unlock();
    try {
      job();
    } catch (const std::exception& exception) {  // out of memory, for one
      LOG(kError, "a request failed: {}", exception.what());
    }
    job = nullptr;  // what it holds goes outside the lock
    lock.lock();
    std::deque<std::function<void()>> dropped;
    if (closed_) {
      dropped.swap(lane->jobs);
    } else if (lane->jobs.empty()) {
      lane->queued = false;
    } else {
      ready_.push_back(lane);
      wake_.notify_one();
    }
    lock.unlock();
    dropped.clear();
    lane.reset();
    lock.lock();
    --busy_;
    if (!ready_.empty()) wake_.notify_one();
  }
}

}  // namespace hearth
