// Spans of requests for an OpenTelemetry collector: OTLP over HTTP as JSON, named by the GenAI conventions. No content.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"
#include "net/http_exchange.h"
#include "net/url.h"
#include "serve/route.h"

namespace hearth::serve {

// The span of a request that a model worked on, as JSON; empty for others. `server`: the address it came in on.
std::string span_json(const RouteCall& call, const HttpOutcome& outcome, uint64_t random_high, uint64_t random_low);
// "00-<32 hex>-<16 hex>-<2 hex>" or, of anything else, empty.
std::string valid_trace_parent(std::string_view header);

// Sends spans in batches from a thread of its own. Any thread may add. What finds the queue full, or the collector away, is
// dropped and counted.
class TraceExporter {
 public:
  static constexpr size_t kQueueMax = 2048, kBatchMax = 256;
  // `endpoint`: the collector, as http://host:4318; /v1/traces is added where there is no path.
  static Result<std::unique_ptr<TraceExporter>> create(std::string_view endpoint, std::string version);
  // Sends what is queued, once.
  ~TraceExporter();
  TraceExporter(const TraceExporter&) = delete;
  TraceExporter& operator=(const TraceExporter&) = delete;

  void add(const RouteCall& call, const HttpOutcome& outcome);
  [[nodiscard]] uint64_t dropped() const { return dropped_; }

 private:
  TraceExporter(Url url, std::string version);
  void work(std::stop_token stop);
  void send(const std::deque<std::string>& spans);

  Url url_;
  std::string version_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::string> spans_;
  std::atomic<uint64_t> dropped_{0};
  bool away_ = false;  // the thread's: the collector did not answer last time, which is logged once
  std::jthread thread_;
};

}  // namespace hearth::serve
