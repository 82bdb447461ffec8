// Work of the engine that is answered when all of it is done, and not before.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "serve/generation.h"

namespace hearth::serve {

// Runs the requests on the model and calls `done` with the last piece of each, on a job of the exchange; an error of submitting is
// returned, and if the engine gives up the call is answered with 503. If the client goes, the work ends.
Result<void> run_all(const RouteCall& call, Acquired acquired, std::vector<Request> requests,
                     std::function<void(std::vector<Piece>)> done);

}  // namespace hearth::serve
