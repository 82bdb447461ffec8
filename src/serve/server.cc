#include "serve/server.h"

#include <boost/json/serialize.hpp>

#include "serve/error.h"
#include "serve/request_log.h"

namespace hearth::serve {
namespace {

// What path and body look like in the beginning decides, where no route does.
Dialect dialect_of(const HttpRequest& request) {
  if (request.path.starts_with("/api/")) return Dialect::kOllama;
  return request.path.starts_with("/v1/messages") ? Dialect::kAnthropic : Dialect::kOpenAi;
}

void reply_refusal(HttpExchange& exchange, Dialect dialect, const Refusal& refusal) {
  if (refusal.status == 401) exchange.add_header("WWW-Authenticate", "Bearer");
  if (refusal.retry_after_seconds > 0) exchange.add_header("Retry-After", std::to_string(refusal.retry_after_seconds));
  exchange.reply(refusal.status, "application/json",
                 boost::json::serialize(error_body(dialect, refusal.status, refusal.error)));
}

// A page of an allowed origin asks before it asks.
void reply_preflight(HttpExchange& exchange, const std::string& origin) {
  if (!origin.empty()) {
    exchange.add_header("Access-Control-Allow-Methods", "GET, POST, DELETE");
    exchange.add_header("Access-Control-Allow-Headers",
                        "authorization, content-type, x-api-key, anthropic-version, idempotency-key, x-request-id, "
                        "last-event-id, x-hearth-policy, x-hearth-data-class");
    exchange.add_header("Access-Control-Max-Age", "600");
  }
  exchange.reply(204, "", "", {{"Allow", "GET, HEAD, POST, DELETE, OPTIONS"}});
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(ServerOptions options, std::unique_ptr<Catalog> catalog,
                                              std::unique_ptr<BatchJournal> journal) {
  auto access = TRY(AccessGuard::create(options.access));
  std::unique_ptr<Server> server(new Server(std::move(options), std::move(catalog), std::move(access)));
  if (journal)
    server->batches_ = std::make_unique<BatchRunner>(*server, std::move(journal), server->options_.batch_parallel);
  if (server->options_.doors) server->doors_ = std::make_unique<Doors>(*server, *server->options_.doors);
  if (!server->options_.otlp_endpoint.empty())
    server->traces_ = TRY(TraceExporter::create(server->options_.otlp_endpoint, server->options_.version));
  server->http_ = TRY(HttpServer::start(
      server->options_.http, [server = server.get()](auto exchange) { server->handle(std::move(exchange)); }));
  return server;
}

Server::Server(ServerOptions options, std::unique_ptr<Catalog> catalog, std::unique_ptr<AccessGuard> access)
    : options_(std::move(options)),
      catalog_(std::move(catalog)),
      memory_(options_.memory, *catalog_),
      access_(std::move(access)) {}

Server::~Server() {
  if (doors_) doors_->stop();  // workers may wait for others
}

void Server::handle(std::shared_ptr<HttpExchange> exchange) {
  const HttpRequest& request = exchange->request();
  RouteCall call{.exchange = exchange, .identity = {}, .parameters = {}, .record = std::make_shared<Record>()};
  call.record->trace_parent = valid_trace_parent(request.header("traceparent"));
  exchange->add_header("X-Content-Type-Options", "nosniff");
  auto matched = match(all_routes(), request.method, request.path);
  if (matched) call.route = matched->route;
  const Dialect dialect = matched ? matched->route->dialect : dialect_of(request);
  // Whether there is a route is told only to who may ask.
  const Access access = matched ? matched->route->access : request.method == "OPTIONS" ? Access::kOpen : Access::kUser;
  auto identity = access_->admit(request, access);
  if (const std::string origin = access_->allowed_origin(request); !origin.empty()) {
    exchange->add_header("Access-Control-Allow-Origin", origin);
    exchange->add_header("Vary", "Origin");
  }
  const auto end = [&](bool counted) {
    RouteCall facts = call;
    facts.exchange.reset();  // which would keep itself alive, should a handler forget it
    exchange->on_done(
        [this, facts = std::move(facts), counted](const HttpOutcome& outcome) { finished(facts, outcome, counted); });
  };
  if (!identity) {
    end(false);
    return reply_refusal(*exchange, dialect, identity.error());
  }
  call.identity = std::move(*identity);
  if (!matched) {
    end(false);
    if (request.method == "OPTIONS") return reply_preflight(*exchange, access_->allowed_origin(request));
    if (matched.error().code == Code::kNotFound) return reply_refusal(*exchange, dialect, {404, matched.error(), 0});
    exchange->add_header("Allow", matched.error().message);
    const Error error{Code::kInvalidArgument,
                      request.method + " is not possible here, only " + matched.error().message};
    return reply_refusal(*exchange, dialect, {405, error, 0});
  }
  if (const auto begun = access_->begin(call.identity); !begun) {
    end(false);
    return reply_refusal(*exchange, dialect, begun.error());
  }
  call.parameters = std::move(matched->parameters);
  end(true);
  if (doors_ && call.route->shared) return doors_->answer(std::move(call));
  call.route->handle(*this, std::move(call));
}

void Server::finished(const RouteCall& call, const HttpOutcome& outcome, bool counted) {
  if (counted) access_->done(call.identity, call.record->prompt_tokens + call.record->completion_tokens);
  if (doors_) doors_->note_answer(*call.record);
  note_request(metrics_, call, outcome, options_.vllm_metrics);
  if (traces_) traces_->add(call, outcome);
  if (options_.log && options_.log_form != LogForm::kOff) options_.log(request_line(options_.log_form, call, outcome));
}

std::vector<std::pair<std::string, ChainStats>> Server::chains() const {
  std::vector<std::pair<std::string, ChainStats>> chains;
  for (const LoadedState& each : catalog_->loaded())
    if (each.model->engine && each.model->engine->chain())
      chains.emplace_back(each.model->name, each.model->engine->chain()->stats());
  return chains;
}

Result<void> Server::reload(std::shared_ptr<TlsContext> tls) {
  if (tls) http_->set_tls(std::move(tls));
  return access_->reload();
}

bool Server::drain(std::chrono::milliseconds patience) {
  draining_ = true;
  return http_->drain(patience);
}

}  // namespace hearth::serve
