#include "gateway/door.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <charconv>

#include "base/embedded_file.h"
#include "base/json.h"
#include "net/url.h"
#include "store/key_ring.h"

namespace hearth::gateway {

std::span<const EmbeddedFile> page_files();

namespace {

namespace json = boost::json;

constexpr std::string_view kPolicy =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";
constexpr size_t kShownSignals = 500, kShownDecisions = 200;
constexpr uint64_t kBodyBytes = 64u << 10;

using Exchange = std::shared_ptr<HttpExchange>;

void reply_json(const Exchange& exchange, int status, const json::value& body) {
  exchange->reply(status, "application/json", json::serialize(body), {{"Cache-Control", "no-store"}});
}

void reply_error(const Exchange& exchange, int status, std::string_view message) {
  reply_json(exchange, status, {{"error", {{"message", message}}}});
}

// One value of a query, as it stands there.
std::string_view parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    if (part.starts_with(name) && part.size() > name.size() && part[name.size()] == '=')
      return part.substr(name.size() + 1);
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return {};
}

size_t count_of(std::string_view query, size_t fallback, size_t most) {
  const std::string_view text = parameter(query, "limit");
  size_t count = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), count);
  return failed == std::errc() && end == text.data() + text.size() ? std::min(count, most) : fallback;
}

// What only this machine can reach is a browser's as well: a page from elsewhere may not ask here, by its own name or by one that it
// makes mean this machine.
bool from_another_page(const HttpRequest& request) {
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && origin != fmt::format("{}://{}", request.tls ? "https" : "http", request.host)) return true;
  std::string_view host = request.host;
  if (host.starts_with('[')) return false;
  host = host.substr(0, std::min(host.find(':'), host.size()));
  return host != "localhost" && !host.empty() &&
         std::ranges::any_of(host, [](char c) { return c != '.' && (c < '0' || c > '9'); });
}

class Handler {
 public:
  Handler(Gateway& gateway, KeyRing keys) : gateway_(gateway), keys_(std::move(keys)) {}

  void answer(const Exchange& exchange) const {
    const HttpRequest& request = exchange->request();
    const std::string_view path = request.path;
    if (request.method == "GET" && (path == "/" || path.starts_with("/web/")))
      return page(exchange, path == "/" ? "index.html" : path.substr(5));
    if (request.local && from_another_page(request))
      return reply_error(exchange, 403, "not from a page of another address");
    const auto who = name_of(request);
    if (!who)
      return reply_error(exchange, 401,
                         "this address needs a key: Authorization: Bearer hearth-...; `hearth key` makes one");
    if (request.method == "GET") return show(exchange, path);
    if (request.method != "POST") return reply_error(exchange, 405, "GET or POST");
    if (!who->may_act) return reply_error(exchange, 403, "confirming takes the key of an administrator");
    act(exchange, path, who->name);
  }

 private:
  struct Who {
    std::string name;
    bool may_act = false;
  };

  [[nodiscard]] std::optional<Who> name_of(const HttpRequest& request) const {
    if (request.local) return Who{"local", true};
    constexpr std::string_view kBearer = "Bearer ";
    const std::string_view given = request.header("authorization");
    const KeyEntry* entry = given.starts_with(kBearer) ? keys_.find(given.substr(kBearer.size())) : nullptr;
    if (entry == nullptr) return std::nullopt;
    return Who{entry->name, entry->rights.admin};
  }

  static void page(const Exchange& exchange, std::string_view name) {
    const auto files = page_files();
    const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
    if (file == files.end()) return reply_error(exchange, 404, "the page has no such file");
    exchange->reply(200, file->content_type, std::string(file->bytes.begin(), file->bytes.end()),
                    {{"ETag", std::string(file->tag)},
                     {"Cache-Control", "no-cache"},
                     {"Content-Security-Policy", std::string(kPolicy)},
                     {"Referrer-Policy", "no-referrer"},
                     {"Cross-Origin-Resource-Policy", "same-origin"}});
  }

  void show(const Exchange& exchange, std::string_view path) const {
    const std::string_view query = exchange->request().query;
    if (path == "/metrics") return exchange->reply(200, "text/plain; version=0.0.4", gateway_.metrics());
    if (path == "/v1/gateway") return reply_json(exchange, 200, gateway_.state());
    if (path == "/v1/gateway/audit") return audit(exchange, count_of(query, 100, 10'000));
    json::array entries;
    bool known = true;
    gateway_.look([&](const Pipeline& pipeline, const Moment& now) {
      if (path == "/v1/gateway/signals")
        entries = pipeline.signals_json(percent_decoded(parameter(query, "prefix")).value_or(""),
                                        count_of(query, kShownSignals, 100'000));
      else if (path == "/v1/gateway/events")
        entries = pipeline.events_json();
      else if (path == "/v1/gateway/decisions")
        entries = pipeline.decisions_json(count_of(query, kShownDecisions, kShownDecisions));
      else if (path == "/v1/gateway/pending")
        entries = pipeline.pending_json(now);
      else
        known = false;
    });
    if (!known) return reply_error(exchange, 404, "nothing here; docs/gateway.md lists what there is");
    reply_json(exchange, 200, {{"data", std::move(entries)}});
  }

  void audit(const Exchange& exchange, size_t count) const {
    const auto rows = gateway_.audit().last(count);
    if (!rows) return reply_error(exchange, info(rows.error().code).http_status, rows.error().message);
    json::array shown;
    for (const AuditRow& row : *rows)
      shown.push_back({{"number", row.number},
                       {"time_ms", row.time_ms},
                       {"kind", row.kind},
                       {"what", row.what},
                       {"digest", row.digest}});
    reply_json(exchange, 200, {{"data", std::move(shown)}});
  }

  void act(const Exchange& exchange, std::string_view path, std::string_view who) const {
    const auto body = parse_json(exchange->request().body, {.depth = 4, .bytes = kBodyBytes});
    const json::object* fields = body ? body->if_object() : nullptr;
    const bool confirms = path == "/v1/gateway/confirm";
    if (!confirms && path != "/v1/gateway/say")
      return reply_error(exchange, 404, "POST goes to /v1/gateway/confirm and /v1/gateway/say");
    const json::value* field = fields == nullptr ? nullptr : fields->if_contains(confirms ? "token" : "text");
    if (field == nullptr || !field->is_string())
      return reply_error(exchange, 400, confirms ? "takes {\"token\": \"...\"}" : "takes {\"text\": \"...\"}");
    const std::string_view text = field->get_string();
    if (!confirms) return reply_json(exchange, 200, {{"answer", gateway_.said(text, who)}});
    const auto confirmed = gateway_.confirm(text, who);
    if (!confirmed) return reply_error(exchange, info(confirmed.error().code).http_status, confirmed.error().message);
    reply_json(exchange, 200, {{"confirmed", true}});
  }

  Gateway& gateway_;
  KeyRing keys_;
};

}  // namespace

Result<std::unique_ptr<Door>> Door::open(Gateway& gateway, DoorOptions options) {
  auto keys = TRY(KeyRing::open(options.key_file));
  auto handler = std::make_shared<const Handler>(gateway, std::move(keys));
  options.http.reader.body_bytes = kBodyBytes;
  std::unique_ptr<Door> door(new Door);
  door->server_ = TRY(
      HttpServer::start(std::move(options.http), [handler](const Exchange& exchange) { handler->answer(exchange); }));
  return door;
}

}  // namespace hearth::gateway
