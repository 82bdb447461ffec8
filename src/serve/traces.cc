#include "serve/traces.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <random>

#include "base/log.h"
#include "net/http_call.h"

namespace hearth::serve {
namespace {
namespace json = boost::json;

constexpr auto kBatchPause = std::chrono::seconds(2);
constexpr std::chrono::seconds kSendTimeMax{5};

json::object attribute(std::string_view key, std::string_view kind, json::value value) {
  return {{"key", key}, {"value", {{kind, std::move(value)}}}};
}
json::object text(std::string_view key, std::string_view value) {
  return attribute(key, "stringValue", json::string(value));
}
json::object whole(std::string_view key, int64_t value) {
  return attribute(key, "intValue", json::string(std::to_string(value)));
}
json::object real(std::string_view key, double value) { return attribute(key, "doubleValue", value); }

std::string nanoseconds(std::chrono::system_clock::time_point time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

json::array attributes_of(const RouteCall& call, const HttpOutcome& outcome) {
  const Record& record = *call.record;
  json::array out{text("gen_ai.operation.name", record.operation),
                  text("gen_ai.provider.name", "hearth"),
                  text("gen_ai.request.model", record.model),
                  text("gen_ai.response.model", record.model),
                  whole("gen_ai.usage.input_tokens", record.prompt_tokens),
                  whole("gen_ai.usage.output_tokens", record.completion_tokens),
                  text("http.route", call.route->path),
                  whole("http.response.status_code", outcome.status)};
  if (record.max_tokens) out.push_back(whole("gen_ai.request.max_tokens", *record.max_tokens));
  if (record.temperature) out.push_back(real("gen_ai.request.temperature", *record.temperature));
  if (record.top_p) out.push_back(real("gen_ai.request.top_p", *record.top_p));
  if (record.first_token_seconds) out.push_back(real("gen_ai.server.time_to_first_token", *record.first_token_seconds));
  if (!record.finish.empty()) {
    json::array reasons{json::object{{"stringValue", record.finish}}};
    out.push_back(
        attribute("gen_ai.response.finish_reasons", "arrayValue", json::object{{"values", std::move(reasons)}}));
  }
  if (!record.error.empty() || outcome.client_gone)
    out.push_back(text("error.type", record.error.empty() ? "client_gone" : record.error));
  return out;
}

}  // namespace

std::string valid_trace_parent(std::string_view header) {
  constexpr std::string_view kForm = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  if (header.size() != kForm.size()) return {};
  for (size_t i = 0; i < kForm.size(); ++i) {
    const char c = header[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (kForm[i] == 'x' ? !hex : c != kForm[i]) return {};
  }
  return std::string(header);
}

std::string span_json(const RouteCall& call, const HttpOutcome& outcome, uint64_t random_high, uint64_t random_low) {
  const Record& record = *call.record;
  if (record.operation.empty() || !call.route) return {};
  const bool has_parent = !record.trace_parent.empty();
  const bool failed = outcome.status >= 500 || outcome.client_gone;
  json::object span{{"traceId", has_parent ? record.trace_parent.substr(3, 32)
                                           : fmt::format("{:016x}{:016x}", random_high, random_low)},
                    {"spanId", fmt::format("{:016x}", (random_high ^ (random_low * 0x9e3779b97f4a7c15)) | 1)},
                    {"name", record.model.empty() ? record.operation : record.operation + " " + record.model},
                    {"kind", 2},
                    {"startTimeUnixNano", nanoseconds(record.arrived_at)},
                    {"endTimeUnixNano",
                     nanoseconds(record.arrived_at + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                                         std::chrono::steady_clock::now() - record.arrived))},
                    {"attributes", attributes_of(call, outcome)},
                    {"status", json::object{{"code", failed ? 2 : 0}}}};
  if (has_parent) span["parentSpanId"] = record.trace_parent.substr(36, 16);
  return json::serialize(span);
}

Result<std::unique_ptr<TraceExporter>> TraceExporter::create(std::string_view endpoint, std::string version) {
  Url url = TRY(parse_url(endpoint));
  if (url.path == "/" || url.path.empty()) {
    const std::string base = url.text.substr(0, url.text.find_last_not_of('/') + 1);
    url = TRY(parse_url(base + "/v1/traces"));
  }
  return std::unique_ptr<TraceExporter>(new TraceExporter(std::move(url), std::move(version)));
}

TraceExporter::TraceExporter(Url url, std::string version)
    : url_(std::move(url)), version_(std::move(version)), thread_([this](std::stop_token stop) { work(stop); }) {}

TraceExporter::~TraceExporter() {
  thread_.request_stop();
  thread_.join();
}

void TraceExporter::add(const RouteCall& call, const HttpOutcome& outcome) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  std::string span = span_json(call, outcome, random(), random());
  if (span.empty()) return;
  {
    const std::scoped_lock lock(mutex_);
    if (spans_.size() >= kQueueMax) {
      ++dropped_;
      return;
    }
    spans_.push_back(std::move(span));
  }
  wake_.notify_one();
}

void TraceExporter::work(std::stop_token stop) {
  for (;;) {
    std::deque<std::string> batch;
    {
      std::unique_lock lock(mutex_);
      // The first span wakes it; then it waits for others to go along.
      wake_.wait(lock, stop, [this] { return !spans_.empty(); });
      wake_.wait_for(lock, stop, kBatchPause, [this] { return spans_.size() >= kBatchMax; });
      if (spans_.empty()) return;  // asked to stop
      const size_t count = std::min(spans_.size(), kBatchMax);
      batch.assign(std::make_move_iterator(spans_.begin()),
                   std::make_move_iterator(spans_.begin() + static_cast<ptrdiff_t>(count)));
      spans_.erase(spans_.begin(), spans_.begin() + static_cast<ptrdiff_t>(count));
    }
    send(batch);
    if (stop.stop_requested() && away_) return;  // nobody is there to take the rest
  }
}

void TraceExporter::send(const std::deque<std::string>& spans) {
  const json::object resource{
      {"attributes", json::array{text("service.name", "hearth"), text("service.version", version_)}}};
  std::string body = fmt::format(
      "{{\"resourceSpans\":[{{\"resource\":{},\"scopeSpans\":[{{\"scope\":{{\"name\":\"hearth\"}},\"spans\":[",
      json::serialize(resource));
  for (size_t i = 0; i < spans.size(); ++i) body += (i > 0 ? "," : "") + spans[i];
  body += "]}]}]}";
  const Result<HttpReply> reply =
      http_call(url_, {.headers = {"Content-Type: application/json"}, .body = body, .total_max = kSendTimeMax});
  const bool taken = reply && reply->status >= 200 && reply->status < 300;
  if (!taken) {
    dropped_ += spans.size();
    if (!away_)
      LOG(kWarning, "traces are dropped: {}",
          reply ? fmt::format("{} answers {}", url_.shown(), reply->status) : reply.error().message);
  }
  away_ = !taken;
}

}  // namespace hearth::serve
