// An adapter at work: writes in one thread, samples for its far side in another, so that neither waits for the other, nor for other
// adapters. What cannot be passed on goes into the queue and comes out of it at a bounded rate, beside what comes live.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "gateway/adapter.h"
#include "gateway/pipeline.h"
#include "gateway/profile.h"
#include "gateway/queue.h"

namespace hearth::gateway {

class AdapterLine {
 public:
  struct Options {
    std::span<const Signal> signals;  // outlive it
    RecordQueue* queue = nullptr;     // as well
    bool history = true;              // false: after an outage only the newest value of each signal is passed on
    int drain_per_second = 200;
    // What became of an act. From the line's thread; may only enqueue.
    std::function<void(int64_t act, Result<> result)> done;
  };
  AdapterLine(Profile::Part part, Options options);
  ~AdapterLine();  // stop()
  AdapterLine(const AdapterLine&) = delete;
  AdapterLine& operator=(const AdapterLine&) = delete;

  Result<> start(GatewayInputs inputs);
  // Ends threads and adapter; samples under way go into the queue. start() may follow.
  void stop();
  // Never wait.
  void act(const Act& act);
  void publish(const Sample& sample);
  void show_pending(std::span<const Pending> pending) { part_.adapter->show_pending(pending); }

  struct Figures {
    AdapterFigures adapter;
    uint64_t waiting = 0;  // on disk
    uint64_t live_passed = 0, history_passed = 0, lost = 0;
  };
  [[nodiscard]] Figures figures() const;
  [[nodiscard]] const std::string& name() const { return part_.name; }
  [[nodiscard]] const std::string& type() const { return part_.type; }

 private:
  void carry_out(const std::stop_token& stop);
  void pass_on(const std::stop_token& stop);
  bool pass_live(std::vector<Sample> samples);
  // Of `most` at most; those that were passed on. False: the far side takes nothing now.
  bool drain(size_t most, size_t& passed);
  [[nodiscard]] Record record_of(const Sample& sample) const;
  void keep(std::span<const Sample> samples);

  Profile::Part part_;
  Options options_;
  SignalNames names_;
  std::vector<uint8_t> unsupported_;  // signals it does not send: asked once
  mutable std::mutex mutex_;
  std::condition_variable_any work_;
  std::deque<Act> acts_;
  std::deque<Sample> live_;
  std::map<SignalId, Sample> newest_;  // without history: what was not passed on
  Figures figures_;
  bool may_wait_ = true;  // something on disk
  std::jthread actor_, sender_;
};

}  // namespace hearth::gateway
