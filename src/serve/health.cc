// GET /health: the process answers. GET /ready: a model is loaded, or there is one that could be.
#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

void health(Server&, RouteCall call) { reply_json(call, 200, {{"status", "ok"}}); }

void ready(Server& server, RouteCall call) {
  if (server.draining()) return reply_json(call, 503, {{"status", "draining"}});
  const bool loaded = !server.catalog().loaded().empty();
  if (!loaded && server.catalog().list().empty()) return reply_json(call, 503, {{"status", "no model"}});
  reply_json(call, 200, {{"status", "ok"}, {"loaded", loaded}});
}

}  // namespace

const Route kHealth{"GET", "/health", Access::kOpen, Dialect::kOpenAi, health};
const Route kReady{"GET", "/ready", Access::kOpen, Dialect::kOpenAi, ready};

}  // namespace hearth::serve
