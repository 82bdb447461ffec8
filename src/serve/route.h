// What a route is. One file per route (or per few that belong together); all.cc lists them.
#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "net/http_exchange.h"

namespace hearth::serve {

class Server;

// Who asks, and what they may do.
struct Identity {
  std::string tenant{};               // the key's name; "local" where no key is needed. Goes into Request::tenant
  std::vector<std::string> models{};  // empty: all
  RequestClass class_max = RequestClass::kRealtime;
  bool admin = false;
  std::string key_sha256{};  // of the key that was shown; empty: none was
  [[nodiscard]] bool may_use(std::string_view model) const;
};

// What became of a request: handlers fill in what they know; the log, metrics and traces read it when the answer has gone out.
// Belongs to the exchange's jobs (the handler and what it posts). No text of prompts or answers may go in here.
struct Record {
  std::string operation;  // as GenAI conventions name it: "chat", "text_completion", "embeddings"
  std::string model;      // the name of the model that answered
  std::string finish;     // "stop", "length", ...
  std::string error;      // the code of an error: "not_found"
  bool streamed = false;
  bool elsewhere = false;  // another machine computed it
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
  double joules = -1;                         // negative: nobody knows
  std::optional<double> first_token_seconds;  // since the request arrived
  std::optional<int> max_tokens;              // as asked, here and below
  std::optional<double> temperature, top_p;
  std::string trace_parent;  // the client's span (W3C), if it sent one
  std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();
  std::chrono::system_clock::time_point arrived_at = std::chrono::system_clock::now();
};

// What makes an answer the same wherever it is given, and again: told to whoever computes it, here or on another machine.
struct AnswerOrigin {
  std::string id;  // of the answer, without the dialect's prefix
  int64_t created = 0;
  uint64_t seed = 0;            // if the request has none
  std::vector<int64_t> told{};  // events of the stream that the client has: of each choice, then of none (StreamPlace)
  bool numbered = false;        // events carry their place, as id
  std::optional<double> deadline_seconds{};  // what is left of the request's
  std::string answered_by{};                 // said in the answer, if not empty
  std::string body{};                        // of the request, which the exchange may not have
};

// A request on its way through a route.
struct RouteCall {
  std::shared_ptr<HttpExchange> exchange;
  Identity identity;
  std::vector<std::string> parameters;  // of the {name} parts of the path, in order, percent-decoded
  std::shared_ptr<Record> record;
  const struct Route* route = nullptr;
  std::shared_ptr<const AnswerOrigin> origin{};  // null: an answer of its own
};

// In which form errors are written.
enum class Dialect : uint8_t { kOpenAi, kOllama, kAnthropic };

enum class Access : uint8_t {
  kOpen,   // no key, from nowhere
  kUser,   // any key
  kAdmin,  // a key with admin rights
  kDoor,   // another machine of the site, at the address for those
};

struct Route {
  std::string_view method;  // HEAD goes where GET goes
  std::string_view path;    // parts are taken literally or, as {name}, any one part; a last {name...} takes the rest
  Access access;
  Dialect dialect;
  // On a worker, which it must not keep: what takes long posts itself anew. Answers now or later.
  void (*handle)(Server&, RouteCall);
  bool shared = false;  // another machine of the site may answer it (doors.h)
};

std::span<const Route* const> all_routes();

struct Matched {
  const Route* route = nullptr;
  std::vector<std::string> parameters;
};
// The route of a path (percent-encoded). Without one: kNotFound, or kUnsupported with the methods there are as message.
Result<Matched> match(std::span<const Route* const> routes, std::string_view method, std::string_view path);

// The body as JSON, within limits::kHttpJsonDepth. Errors are the client's.
Result<boost::json::value> json_body(const RouteCall& call);
void reply_json(const RouteCall& call, int status, const boost::json::value& body);
// In the dialect of the route; notes the code in the record.
void reply_error(const RouteCall& call, const Error& error);

}  // namespace hearth::serve
