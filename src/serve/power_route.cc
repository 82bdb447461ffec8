// GET /v1/power: how fast the engines may go, why, and what the sensors say.
#include <boost/json/object.hpp>

#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

void power(Server& server, RouteCall call) {
  if (!server.options().power_state) return reply_error(call, {Code::kNotFound, "this server has no power governor"});
  reply_json(call, 200, server.options().power_state());
}

}  // namespace

const Route kPower{"GET", "/v1/power", Access::kUser, Dialect::kOpenAi, power};

}  // namespace hearth::serve
