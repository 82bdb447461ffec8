#include "serve/request_log.h"

#include <fmt/chrono.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace hearth::serve {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string_view route_of(const RouteCall& call) { return call.route ? call.route->path : "none"; }

// Not the client's own word.
std::string_view method_of(const RouteCall& call) { return call.route ? call.route->method : "other"; }

double rounded(double seconds) { return static_cast<double>(static_cast<int64_t>(seconds * 1e6)) * 1e-6; }

}  // namespace

std::string request_line(LogForm form, const RouteCall& call, const HttpOutcome& outcome) {
  const Record& record = *call.record;
  boost::json::object line{{"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                                                fmt::gmtime(std::chrono::system_clock::to_time_t(record.arrived_at)))},
                           {"tenant", call.identity.tenant.empty() ? "-" : call.identity.tenant},
                           {"method", method_of(call)},
                           {"route", route_of(call)},
                           {"status", outcome.status},
                           {"seconds", rounded(seconds_since(record.arrived))},
                           {"bytes", outcome.bytes}};
  if (outcome.client_gone) line["client_gone"] = true;
  if (!record.error.empty()) line["error"] = record.error;
  if (!record.model.empty()) {
    line["model"] = record.model;
    line["prompt_tokens"] = record.prompt_tokens;
    line["cached_tokens"] = record.cached_tokens;
    line["completion_tokens"] = record.completion_tokens;
    line["queue_seconds"] = rounded(record.queue_seconds);
    line["prefill_seconds"] = rounded(record.prefill_seconds);
    line["decode_seconds"] = rounded(record.decode_seconds);
    if (record.joules >= 0) line["joules"] = record.joules;
    if (!record.finish.empty()) line["finish"] = record.finish;
  }
  if (form == LogForm::kJson) return boost::json::serialize(line);
  std::string text;
  for (const auto& member : line) {
    const boost::json::value& value = member.value();
    if (!text.empty()) text += ' ';
    if (const auto* string = value.if_string(); string && string->find_first_of(" \"=") == std::string_view::npos) {
      text += fmt::format("{}={}", std::string_view(member.key()), std::string_view(*string));
    } else if (const double* number = value.if_double()) {
      text += fmt::format("{}={:.6f}", std::string_view(member.key()), *number);
    } else {
      text += fmt::format("{}={}", std::string_view(member.key()), boost::json::serialize(value));
    }
  }
  return text;
}

namespace {

// What is told of an answer, under both names.
struct Timing {
  std::string_view name, vllm_name, help;
  std::optional<double> (*seconds)(const Record&, double total);
};
constexpr Timing kTimings[] = {
    {"hearth_queue_seconds", "vllm:request_queue_time_seconds", "Time a request waited for its turn",
     [](const Record& record, double) -> std::optional<double> { return record.queue_seconds; }},
    {"hearth_prefill_seconds", "vllm:request_prefill_time_seconds", "Time to take in a prompt",
     [](const Record& record, double) -> std::optional<double> { return record.prefill_seconds; }},
    {"hearth_decode_seconds", "vllm:request_decode_time_seconds", "Time to generate an answer",
     [](const Record& record, double) -> std::optional<double> { return record.decode_seconds; }},
    {"hearth_answer_seconds", "vllm:e2e_request_latency_seconds", "From a request's arrival to the end of its answer",
     [](const Record&, double total) -> std::optional<double> { return total; }},
    {"hearth_time_to_first_token_seconds", "vllm:time_to_first_token_seconds",
     "From a request's arrival to its first token",
     [](const Record& record, double) { return record.first_token_seconds; }},
    {"hearth_time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds",
     "Mean time between the tokens of an answer",
     [](const Record& record, double) -> std::optional<double> {
       if (record.completion_tokens < 2) return std::nullopt;
       return record.decode_seconds / (record.completion_tokens - 1);
     }},
};

}  // namespace

void note_request(Metrics& metrics, const RouteCall& call, const HttpOutcome& outcome, bool vllm) {
  const Record& record = *call.record;
  const double total = seconds_since(record.arrived);
  const std::string status = outcome.client_gone ? "gone" : std::to_string(outcome.status);
  metrics
      .counter("hearth_http_requests_total", "Requests answered, by route and status (gone: the client left)",
               {{"route", route_of(call)}, {"method", method_of(call)}, {"status", status}})
      .add();
  metrics
      .histogram("hearth_http_request_seconds", "From a request's arrival to the last byte of its answer",
                 seconds_buckets(), {{"route", route_of(call)}})
      .observe(total);
  if (record.model.empty() || record.finish.empty()) return;
  const Labels model{{"model", record.model}}, vllm_model{{"model_name", record.model}, {"engine", "0"}};
  metrics
      .counter("hearth_generations_total", "Answers by how they ended",
               {{"model", record.model}, {"finish", record.finish}})
      .add();
  if (record.joules >= 0)
    metrics.counter("hearth_request_joules_total", "Energy of answers, measured or estimated", model)
        .add(record.joules);
  if (vllm) {
    metrics
        .counter("vllm:request_success_total", "Answers by how they ended",
                 {{"model_name", record.model}, {"engine", "0"}, {"finished_reason", record.finish}})
        .add();
  }
  if (outcome.client_gone) return;  // times of an answer that was not finished say nothing
  for (const Timing& timing : kTimings) {
    const std::optional<double> seconds = timing.seconds(record, total);
    if (!seconds) continue;
    metrics.histogram(timing.name, timing.help, seconds_buckets(), model).observe(*seconds);
    if (vllm) metrics.histogram(timing.vllm_name, timing.help, seconds_buckets(), vllm_model).observe(*seconds);
  }
}

}  // namespace hearth::serve
