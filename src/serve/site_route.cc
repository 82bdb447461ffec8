// GET /v1/site: the machines of the site, the other doors, and the chains of this server's models: what the page's view of the site shows.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::object shown(const std::string& model, const ChainStats& stats) {
  json::array machines;
  for (const ChainStats::Machine& each : stats.machines)
    machines.push_back({{"address", each.name},
                        {"layers", {each.first_layer, each.end_layer}},
                        {"bytes", {{"sent", each.bytes_sent}, {"received", each.bytes_received}}},
                        {"frames", {{"sent", each.frames_sent}, {"received", each.frames_received}}},
                        {"round_trip_seconds", each.round_trip_seconds}});
  return {
      {"model", model},         {"plan", stats.plan},   {"steps", stats.steps},     {"epochs", stats.epochs},
      {"losses", stats.losses}, {"moves", stats.moves}, {"resumed", stats.resumed}, {"machines", std::move(machines)}};
}

void site(Server& server, RouteCall call) {
  json::object known = server.options().site ? server.options().site() : json::object();
  json::array members, chains;
  if (json::value* machines = known.if_contains("machines")) members = std::move(machines->as_array());
  for (const auto& [model, stats] : server.chains()) chains.push_back(shown(model, stats));
  reply_json(call, 200,
             {{"broker", known.contains("broker") ? known["broker"] : json::value()},
              {"members", std::move(members)},
              {"doors", server.doors() ? server.doors()->others_shown() : json::array()},
              {"chains", std::move(chains)}});
}

}  // namespace

const Route kSiteView{"GET", "/v1/site", Access::kAdmin, Dialect::kOpenAi, site};

}  // namespace hearth::serve
