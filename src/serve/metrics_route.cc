// GET /metrics: for Prometheus.
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/process_memory.h"
#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

double seconds_of(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

void write_process(Exposition& out, Server& server) {
  const auto gauge = [&](std::string_view name, std::string_view help, double value) {
    out.family(name, "gauge", help);
    out.sample({}, value);
  };
  gauge("process_resident_memory_bytes", "Memory of this process", static_cast<double>(resident_bytes()));
  std::ifstream times("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(times)), {});
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 1, text.size())));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;  // up to utime, the fourteenth
  double user = 0, system = 0;
  if (fields >> user >> system) {
    out.family("process_cpu_seconds_total", "counter", "Processor time of this process");
    out.sample({}, (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK)));
  }
  gauge("process_start_time_seconds", "When it started", seconds_of(server.started()));
  gauge("hearth_http_connections", "Connections that are open", server.connections());
  out.family("hearth_traces_dropped_total", "counter", "Spans that the collector did not get");
  out.sample({}, static_cast<double>(server.dropped_traces()));
  server.memory().write_metrics(out);
  out.family("hearth_build_info", "gauge", "The version, as a label");
  out.sample({{"version", server.options().version}}, 1);
}

struct ModelMetric {
  std::string_view name, type, help, vllm_name;
  double (*value)(const LoadedState&, const EngineStats&);
};
constexpr ModelMetric kModelMetrics[] = {
    {"hearth_requests_running", "gauge", "Sequences that are computed", "vllm:num_requests_running",
     [](const LoadedState&, const EngineStats& s) -> double { return s.running; }},
    {"hearth_requests_waiting", "gauge", "Requests in the queue", "vllm:num_requests_waiting",
     [](const LoadedState&, const EngineStats& s) -> double { return s.waiting; }},
    {"hearth_requests_parked", "gauge", "Sequences put aside for more urgent ones", "",
     [](const LoadedState&, const EngineStats& s) -> double { return s.parked; }},
    {"hearth_kv_used_ratio", "gauge", "Share of the positions for keys and values that are taken",
     "vllm:kv_cache_usage_perc",
     [](const LoadedState&, const EngineStats& s) {
       return s.kv_positions_max > 0
                  ? static_cast<double>(s.kv_positions_used) / static_cast<double>(s.kv_positions_max)
                  : 0.0;
     }},
    {"hearth_kv_bytes", "gauge", "Memory of keys and values in use", "",
     [](const LoadedState&, const EngineStats& s) {
       return static_cast<double>(s.kv_positions_used) * static_cast<double>(s.kv_position_bytes);
     }},
    {"hearth_prompt_tokens_total", "counter", "Tokens of prompts", "vllm:prompt_tokens_total",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.prompt_tokens); }},
    {"hearth_cached_prompt_tokens_total", "counter", "Tokens of prompts that did not have to be computed again",
     "vllm:prefix_cache_hits_total",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.cached_tokens); }},
    {"hearth_generated_tokens_total", "counter", "Tokens of answers", "vllm:generation_tokens_total",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.completion_tokens); }},
    {"hearth_preemptions_total", "counter", "Sequences put aside for more urgent ones", "vllm:num_preemptions_total",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.preemptions); }},
    {"hearth_refused_total", "counter", "Requests refused by the engine", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.refused); }},
    {"hearth_steps_total", "counter", "Steps of the decoder", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.steps); }},
    {"hearth_prefill_step_seconds_total", "counter", "Time of steps spent on prompts", "",
     [](const LoadedState&, const EngineStats& s) { return s.prompt_seconds; }},
    {"hearth_decode_step_seconds_total", "counter", "Time of steps spent on answers", "",
     [](const LoadedState&, const EngineStats& s) { return s.decode_seconds; }},
    {"hearth_weight_read_bytes_total", "counter", "Weights read from disk because they do not stay in memory", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.weight_read_bytes); }},
    {"hearth_expert_hits_total", "counter", "Times an expert was in memory when it was needed", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.expert_hits); }},
    {"hearth_expert_misses_total", "counter", "Times an expert was read from disk", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.expert_misses); }},
    {"hearth_model_weight_bytes", "gauge", "Weights of a model in memory", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.weight_bytes); }},
    {"hearth_model_streamed_bytes", "gauge", "Weights that are read from disk for each pass through a model", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.streamed_bytes); }},
    {"hearth_kv_positions", "gauge", "Positions that there is memory for, of keys and values", "",
     [](const LoadedState&, const EngineStats& s) { return static_cast<double>(s.kv_positions_max); }},
    {"hearth_model_memory_bytes", "gauge", "Memory planned for a model", "",
     [](const LoadedState& m, const EngineStats&) { return static_cast<double>(m.model->memory_bytes); }},
    {"hearth_model_holders", "gauge", "Requests that hold a model", "",
     [](const LoadedState& m, const EngineStats&) -> double { return m.holders; }},
};

// Guessed tokens, by what they were copied from.
void write_drafts(Exposition& out, std::span<const LoadedState> models, std::span<const EngineStats> stats) {
  const auto family = [&](std::string_view metric, std::string_view help, auto counts) {
    out.family(metric, "counter", help);
    for (size_t i = 0; i < models.size(); ++i)
      for (size_t source = 0; source < kDraftSources.size(); ++source)
        out.sample({{"model", models[i].model->name}, {"source", std::string(name(kDraftSources[source]))}},
                   static_cast<double>((stats[i].*counts)[source]));
  };
  family("hearth_drafted_tokens_total", "Tokens that were guessed and run", &EngineStats::drafted_tokens);
  family("hearth_accepted_draft_tokens_total", "Guessed tokens that became part of an answer",
         &EngineStats::accepted_tokens);
}

// Of models whose layers are on other machines.
void write_chains(Exposition& out, Server& server) {
  const auto chains = server.chains();
  if (chains.empty()) return;
  using Machine = ChainStats::Machine;
  const auto of_chains = [&](std::string_view name, std::string_view help, uint64_t ChainStats::* value) {
    out.family(name, "counter", help);
    for (const auto& [model, stats] : chains) out.sample({{"model", model}}, static_cast<double>(stats.*value));
  };
  const auto of_machines = [&](std::string_view name, std::string_view type, std::string_view help,
                               auto Machine::* value) {
    out.family(name, type, help);
    for (const auto& [model, stats] : chains)
      for (const Machine& each : stats.machines)
        out.sample({{"model", model}, {"machine", each.name}}, static_cast<double>(each.*value));
  };
  of_chains("hearth_chain_steps_total", "Steps sent through a chain of machines", &ChainStats::steps);
  of_chains("hearth_chain_epochs_total", "Times the machines of a chain were given their layers", &ChainStats::epochs);
  of_chains("hearth_chain_losses_total", "Machines with layers that were lost", &ChainStats::losses);
  of_chains("hearth_chain_moves_total", "Layers that went to another machine as planned", &ChainStats::moves);
  of_chains("hearth_chain_resumed_total", "Changes of machines that lost no state", &ChainStats::resumed);
  of_chains("hearth_chain_repeated_steps_total", "Steps sent again for that", &ChainStats::steps_repeated);
  of_machines("hearth_stage_first_layer", "gauge", "The first layer of a machine", &Machine::first_layer);
  of_machines("hearth_stage_end_layer", "gauge", "The layer behind a machine's last", &Machine::end_layer);
  of_machines("hearth_link_sent_bytes_total", "counter", "Sent to a machine", &Machine::bytes_sent);
  of_machines("hearth_link_received_bytes_total", "counter", "Received from a machine", &Machine::bytes_received);
  of_machines("hearth_link_sent_frames_total", "counter", "Frames sent to a machine", &Machine::frames_sent);
  of_machines("hearth_link_received_frames_total", "counter", "Frames from a machine", &Machine::frames_received);
  of_machines("hearth_link_round_trip_seconds", "gauge", "What the newest ping took", &Machine::round_trip_seconds);
}

void write_models(Exposition& out, Server& server) {
  const std::vector<LoadedState> models = server.catalog().loaded();
  std::vector<EngineStats> stats;
  for (const LoadedState& each : models)
    stats.push_back(each.model->engine ? each.model->engine->stats() : EngineStats{});
  out.family("hearth_model_info", "gauge", "Models in memory, their digest as a label");
  for (const LoadedState& each : models) out.sample({{"model", each.model->name}, {"digest", each.model->digest}}, 1);
  write_drafts(out, models, stats);
  write_chains(out, server);
  for (const bool vllm : {false, true}) {
    if (vllm && !server.options().vllm_metrics) break;
    for (const ModelMetric& metric : kModelMetrics) {
      if (vllm && metric.vllm_name.empty()) continue;
      out.family(vllm ? metric.vllm_name : metric.name, metric.type, metric.help);
      for (size_t i = 0; i < models.size(); ++i) {
        const std::string& name = models[i].model->name;
        out.sample(vllm ? Labels{{"model_name", name}, {"engine", "0"}} : Labels{{"model", name}},
                   metric.value(models[i], stats[i]));
      }
    }
  }
}

void metrics(Server& server, RouteCall call) {
  Exposition out;
  server.metrics().write(out);
  write_models(out, server);
  write_process(out, server);
  if (server.doors()) server.doors()->write_metrics(out);
  if (server.options().power_metrics) server.options().power_metrics(out);
  call.exchange->reply(200, "text/plain; version=0.0.4; charset=utf-8", out.text());
}

}  // namespace

const Route kMetrics{"GET", "/metrics", Access::kAdmin, Dialect::kOpenAi, metrics};

}  // namespace hearth::serve
