// What is told of a request when it is over: numbers and names, never text.
#pragma once

#include <string>

#include "base/metrics.h"
#include "net/http_exchange.h"
#include "serve/route.h"
#include "serve/server.h"

namespace hearth::serve {

// One line: time, tenant, method, route (not the path, which a client makes up), status, model, tokens, seconds.
std::string request_line(LogForm form, const RouteCall& call, const HttpOutcome& outcome);
// Counts it under its route and, if a model answered, under the model.
// `vllm`: the latter under vLLM's names, too.
void note_request(Metrics& metrics, const RouteCall& call, const HttpOutcome& outcome, bool vllm = false);

}  // namespace hearth::serve
