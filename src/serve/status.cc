// GET /api/hearth/status: what the page's live view shows. Of the models that the asker may use; no text of anyone.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/process_memory.h"
#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

using Clock = std::chrono::system_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

boost::json::object model_status(const LoadedState& state) {
  const LoadedModel& model = *state.model;
  boost::json::object out{{"name", model.name}, {"memory_bytes", model.memory_bytes}, {"holders", state.holders}};
  out["expires_in_seconds"] = nullptr;
  if (state.expires) out["expires_in_seconds"] = std::max(0.0, seconds(*state.expires - Clock::now()));
  if (!model.engine) return out;
  const EngineStats stats = model.engine->stats();
  out["requests"] = {{"running", stats.running}, {"waiting", stats.waiting}, {"parked", stats.parked}};
  out["kv"] = {{"positions_used", stats.kv_positions_used},
               {"positions_max", stats.kv_positions_max},
               {"position_bytes", stats.kv_position_bytes}};
  out["tokens"] = {
      {"prompt", stats.prompt_tokens}, {"cached", stats.cached_tokens}, {"generated", stats.completion_tokens}};
  boost::json::object drafts;
  for (size_t i = 0; i < kDraftSources.size(); ++i)
    drafts[name(kDraftSources[i])] = {{"run", stats.drafted_tokens[i]}, {"accepted", stats.accepted_tokens[i]}};
  out["drafts"] = std::move(drafts);
  return out;
}

void status(Server& server, RouteCall call) {
  boost::json::array models;
  for (const LoadedState& state : server.catalog().loaded()) {
    if (call.identity.may_use(state.model->name)) models.push_back(model_status(state));
  }
  reply_json(call, 200,
             {{"version", server.options().version},
              {"default_model", server.options().default_model},
              {"uptime_seconds", seconds(Clock::now() - server.started())},
              {"resident_bytes", resident_bytes()},
              {"memory_bytes_max", server.memory().bound()},
              {"models", std::move(models)}});
}

}  // namespace

const Route kStatus{"GET", "/api/hearth/status", Access::kUser, Dialect::kOpenAi, status};

}  // namespace hearth::serve
