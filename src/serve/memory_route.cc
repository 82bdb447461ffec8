// GET /v1/memory: the bound, what is resident, what gave way. POST /v1/memory {"limit": "512MiB"}: another bound.
#include <boost/json/object.hpp>

#include "base/byte_size.h"
#include "serve/all.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

void memory(Server& server, RouteCall call) { reply_json(call, 200, server.memory().state()); }

Result<void> take_limit(Server& server, const RouteCall& call) {
  const boost::json::value body = TRY(json_body(call));
  const boost::json::value* limit = body.is_object() ? body.get_object().if_contains("limit") : nullptr;
  if (!limit) return fail(Code::kInvalidArgument, "want {{\"limit\": \"512MiB\"}} or a number of bytes");
  if (limit->is_string())
    return server.memory().set_limit(TRY(parse_size("limit", std::string_view(limit->get_string()))));
  boost::system::error_code not_whole;
  const auto bytes = limit->to_number<uint64_t>(not_whole);
  if (not_whole) return fail(Code::kInvalidArgument, "limit: want a number of bytes, or text as 512MiB");
  return server.memory().set_limit(bytes);
}

void set_memory(Server& server, RouteCall call) {
  if (auto done = take_limit(server, call); !done) return reply_error(call, done.error());
  reply_json(call, 200, server.memory().state());
}

}  // namespace

const Route kMemory{"GET", "/v1/memory", Access::kAdmin, Dialect::kOpenAi, memory};
const Route kSetMemory{"POST", "/v1/memory", Access::kAdmin, Dialect::kOpenAi, set_memory};

}  // namespace hearth::serve
