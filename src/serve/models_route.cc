// GET /v1/models and /v1/models/{id}.
#include <boost/json/array.hpp>

#include "serve/all.h"
#include "serve/generation.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::object shown(const ListedModel& model, std::string_view id, std::chrono::system_clock::time_point started) {
  const ModelDetails& details = model.details;
  return {{"id", id},
          {"object", "model"},
          {"created", std::chrono::duration_cast<std::chrono::seconds>(started.time_since_epoch()).count()},
          {"owned_by", "hearth"},
          {"meta",
           {{"n_ctx_train", details.context_max},
            {"n_params", details.parameters},
            {"size", model.source.bytes},
            {"embedding", details.embedding}}}};
}

// Its model is known once that is in memory.
json::object shown_adapter(const std::string& name, Server& server) {
  json::object out{
      {"id", name},
      {"object", "model"},
      {"created", std::chrono::duration_cast<std::chrono::seconds>(server.started().time_since_epoch()).count()},
      {"owned_by", "hearth"},
      {"parent", nullptr}};
  for (const LoadedState& state : server.catalog().loaded())
    if (state.model->adapter(name)) out["parent"] = state.model->name;
  return out;
}

void models(Server& server, RouteCall call) {
  json::array data;
  auto add = [&](const ListedModel& model, std::string_view id) {
    if (call.identity.may_use(id)) data.emplace_back(shown(model, id, server.started()));
  };
  for (const ListedModel& model : server.catalog().list()) add(model, model.source.name);
  const ModelLibrary& library = server.catalog().library();
  for (const auto& [alias, target] : library.aliases())
    if (const auto model = library.details(alias)) add(*model, alias);
  for (const auto& [name, family] : server.catalog().adapters())
    if (call.identity.may_use(name)) data.emplace_back(shown_adapter(name, server));
  reply_json(call, 200, {{"object", "list"}, {"data", std::move(data)}});
}

void model(Server& server, RouteCall call) {
  const std::string& name = call.parameters[0];
  const auto found = server.catalog().library().details(name);
  if (!found && server.catalog().adapters().contains(name) && call.identity.may_use(name))
    return reply_json(call, 200, shown_adapter(name, server));
  if (!found || !call.identity.may_use(name))
    return reply_error(call, {Code::kNotFound, fmt::format("model '{}' not found", name)});
  reply_json(call, 200, shown(*found, name, server.started()));
}

}  // namespace

const Route kModels{"GET", "/v1/models", Access::kUser, Dialect::kOpenAi, models};
const Route kModel{"GET", "/v1/models/{id...}", Access::kUser, Dialect::kOpenAi, model};

}  // namespace hearth::serve
