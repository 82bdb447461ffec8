#include <CLI/CLI.hpp>
#include <atomic>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <memory>
#include <mutex>

#include "base/log.h"
#include "cli/chain_options.h"
#include "cli/command.h"
#include "cli/core_options.h"
#include "cli/door_options.h"
#include "cli/gateway_service.h"
#include "cli/machine.h"
#include "cli/model_catalog.h"
#include "cli/model_pull.h"
#include "cli/output.h"
#include "cli/power_options.h"
#include "cli/serve_security.h"
#include "cli/service.h"
#include "cli/settings.h"
#include "cli/site_presence.h"
#include "cli/state_options.h"
#include "cluster/site.h"
#include "model/kv_gate.h"
#include "serve/server.h"

namespace hearth::cli {
namespace {

struct ServeOptions {
  ModelCatalogOptions catalog;
  PowerOptions power;
  SecurityOptions security;
  DoorFlags doors;
  GatewayFlags gateway;
  serve::ServerOptions server;
  SwapOptions swap{.bytes = "1GiB", .folder = {}};
  std::filesystem::path session_folder;
  std::string memory, log_form = "text";
  bool json = false;
  int drain_seconds = 30, body_megabytes = 4;
};

// Four fifths of what this process may have: the rest is for everything else.
uint64_t default_memory() {
  const Machine machine = probe_machine();
  return std::min(machine.memory_bytes, machine.memory_limit_bytes.value_or(machine.memory_bytes)) / 5 * 4;
}

Result<std::unique_ptr<BatchJournal>> open_journal() {
  const Key key = TRY(storage_key());
  return BatchJournal::open(serve_folder() / "batches.db", key);
}

// Clients pull from the hub only: an address or a file of their choosing would be reached with this machine's rights.
class ClientObserver final : public PullObserver {
 public:
  ClientObserver(const std::atomic<bool>& flag, const std::function<void(const serve::PullProgress&)>& tell)
      : PullObserver(flag), tell_(tell) {}
  void begin(const ExpectedFile& file) override { file_ = file; }
  void progress(const DownloadProgress& progress) override {
    tell_({.file = file_.name, .sha256 = file_.sha256, .bytes = progress.bytes, .total = progress.total});
  }
  void note(const std::string& text) override { LOG(kInfo, "{}", text); }

 private:
  const std::function<void(const serve::PullProgress&)>& tell_;
  ExpectedFile file_;
};

Result<void> pull_for_client(const std::string& name, const std::atomic<bool>& cancelled,
                             const std::function<void(const serve::PullProgress&)>& tell) {
  ClientObserver observer(cancelled, tell);
  PullOptions options;
  options.source = name;
  options.hub_only = true;
  TRY(pull_model(options, observer));
  return {};
}

std::string url_of(const HttpServerOptions::Listen& listen, uint16_t port) {
  const ListenAddress& address = listen.address;
  if (!address.unix_path.empty()) return address.text;
  const std::string host = address.host.empty()         ? "*"
                           : address.host.contains(':') ? "[" + address.host + "]"
                                                        : address.host;
  return fmt::format("{}://{}:{}", listen.tls || listen.site ? "https" : "http", host, port);
}

void announce(const serve::Server& server, bool as_json) {
  const HttpServerOptions& http = server.options().http;
  boost::json::array urls;
  for (size_t i = 0; i < http.listen.size(); ++i) {
    const std::string url = url_of(http.listen[i], server.ports()[i]);
    if (http.listen[i].door) {
      fmt::print(stderr, "Door on {}\n", url);
      continue;
    }
    fmt::print(stderr, "Listening on {}\n", url);
    urls.emplace_back(url);
  }
  if (http.tls) fmt::print(stderr, "Certificate SHA-256 {}\n", http.tls->fingerprint());
  if (!as_json) return;
  boost::json::object told{{"listening", std::move(urls)}};
  if (http.tls) told["certificate_sha256"] = http.tls->fingerprint();
  fmt::print("{}\n", boost::json::serialize(told));
  std::fflush(stdout);
}

void reload(serve::Server& server, const SecurityOptions& security, GatewayService* gateway) {
  notify_service("RELOADING=1");
  const auto tls = load_certificate(security);
  const Result<void> done = tls ? server.reload(*tls) : std::unexpected(tls.error());
  fmt::print(stderr, "{}\n", done ? "Keys and certificate read again." : "Nothing changed: " + done.error().message);
  if (gateway) gateway->reload();
  notify_service("READY=1");
}

// Devices beside the models, of which they ask this server's. Null: none are wanted.
Result<std::unique_ptr<GatewayService>> start_gateway(const serve::Server& server, GatewayFlags flags) {
  if (flags.config.empty()) return nullptr;
  const auto& listen = server.options().http.listen;
  for (size_t i = 0; i < listen.size() && flags.serve.empty(); ++i) {
    const auto& each = listen[i];
    if (!each.door && !each.site && !each.tls && each.address.unix_path.empty() && each.address.loopback())
      flags.serve = url_of(each, server.ports()[i]);
  }
  if (flags.serve.empty())
    return fail(Code::kInvalidArgument,
                "--gateway asks this server over an address of this machine without TLS: add --listen 127.0.0.1:8080");
  if (server.options().access.always_key && environment("HEARTH_API_KEY").empty())
    return fail(Code::kInvalidArgument, "--gateway with --require-key: HEARTH_API_KEY has to be a key of `hearth key`");
  return GatewayService::start(flags);
}

// This server in its site: says that it is there, and knows the doors of others. Nothing where this machine has no site, or that no broker.
class InSite {
 public:
  void enter(serve::Server& server) {
    auto tls = cluster::open_site(site_folder());
    if (!tls) return;
    const auto clients = place_of(server, false), doors = place_of(server, true);
    if (!clients && !doors) return;
    const auto place = std::make_shared<std::atomic<cluster::Presence*>>(nullptr);
    process_ = fmt::format("serve-{}", clients ? clients->second : doors->second);
    auto presence = join_bus(*tls, [&server, place, clients, doors, about = describe_machine(process_)] {
      cluster::Member member = about();
      const auto reachable = [&](const auto& listens) {
        return listens ? reachable_address(listens->first, listens->second, place->load()) : std::string();
      };
      member.door = reachable(clients), member.site_door = reachable(doors);
      for (const LoadedState& loaded : server.catalog().loaded()) {
        if (!loaded.model) continue;
        member.models.push_back({.name = loaded.model->name, .digest = loaded.model->digest});
        if (!loaded.model->engine) continue;
        const EngineStats stats = loaded.model->engine->stats();
        member.running += stats.running, member.queued += stats.waiting + stats.parked;
      }
      return member;
    });
    if (!presence) {
      LOG(kWarning, "{}", presence.error().message);
      return;
    }
    *place = presence->get();
    const std::scoped_lock lock(mutex_);
    presence_ = std::move(*presence);
  }
  // Before the server ends, of which it says things.
  void leave() {
    const auto presence = [&] {
      const std::scoped_lock lock(mutex_);
      return std::move(presence_);
    }();
  }
  // HOST:PORT of each, also of those that were not heard lately: doors look for themselves who answers. While the broker is away, as it was
  // before. Any thread.
  std::vector<std::string> doors() {
    const std::scoped_lock lock(mutex_);
    if (!presence_ || !presence_->connected()) return doors_;
    doors_.clear();
    for (const cluster::Members::Seen& seen : presence_->everybody())
      if (const cluster::Member& member = seen.member;
          !member.site_door.empty() && (member.name != presence_->name() || member.process != process_))
        doors_.push_back(member.site_door);
    return doors_;
  }
  // Who is in the site; empty before it is in one. Any thread.
  boost::json::object state() {
    const std::scoped_lock lock(mutex_);
    return presence_ ? site_state(*presence_) : boost::json::object();
  }

 private:
  // Where it listens for clients, or for other servers.
  static std::optional<std::pair<ListenAddress, uint16_t>> place_of(const serve::Server& server, bool door) {
    const auto& listen = server.options().http.listen;
    for (size_t i = 0; i < listen.size(); ++i)
      if (listen[i].door == door && listen[i].address.unix_path.empty())
        return std::pair(listen[i].address, server.ports()[i]);
    return std::nullopt;
  }

  std::mutex mutex_;
  std::unique_ptr<cluster::Presence> presence_;
  std::vector<std::string> doors_;
  std::string process_;  // set before anybody else has a presence to see
};

Result<void> run(ServeOptions& options) {
  ServiceSignals signals;  // before any thread
  options.catalog.engine.kv_type = TRY(planned_kv_type(options.catalog.model.kv_type));
  if (options.memory.empty()) {
    options.server.memory.bytes = default_memory();
    options.catalog.memory_bytes_max = static_cast<int64_t>(options.server.memory.bytes);
  } else {
    options.server.memory.bytes = options.catalog.process_bytes_max = TRY(parse_size("--memory", options.memory));
    options.server.memory.asked = true;
  }
  options.catalog.model.parallel = options.catalog.engine.parallel;
  options.server.log_form = options.log_form == "json"  ? serve::LogForm::kJson
                            : options.log_form == "off" ? serve::LogForm::kOff
                                                        : serve::LogForm::kText;
  options.server.http.reader.body_bytes = static_cast<uint64_t>(options.body_megabytes) << 20;
  TRY(secure(options.security, options.server.http));
  options.server.access.key_file = key_file(options.security);
  options.server.access.allow_hosts = own_names(options.security);
  options.server.version = HEARTH_VERSION;
  options.server.pull = pull_for_client;
  options.server.log = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };

  options.catalog.engine.state_cache = TRY(open_swap(options.swap));
  if (!options.session_folder.empty())
    options.server.sessions = serve::SessionPlace{options.session_folder, TRY(storage_key())};
  const CoreOptions cores = TRY(CoreOptions::prepare(options.power, options.catalog.model.n_threads));
  const auto governor =
      TRY(start_governor(options.power, options.catalog.model.n_threads, may_switch_precision(options.catalog.model)));
  options.catalog.model.settle_cores = cores.settle(governor);
  options.catalog.engine.pacer = make_pacer(governor);
  const auto in_site = std::make_shared<InSite>();
  TRY(open_doors(options.doors, options.catalog, governor, [in_site] { return in_site->doors(); }, options.server));
  options.server.site = [in_site] { return in_site->state(); };
  options.server.power_state = [governor] { return governor->state(); };
  options.server.smaller_model = options.power.fallback;
  options.server.wants_smaller_model = [governor] { return governor->wants_smaller_model(); };
  options.server.power_metrics = [governor](Exposition& out) { governor->write_metrics(out); };
  std::vector<std::string> names;
  std::unique_ptr<Catalog> catalog = TRY(make_catalog(options.catalog, names));
  if (!names.empty()) options.server.default_model = names.front();
  if (!options.power.fallback.empty()) TRY(catalog->library().find(options.power.fallback));
  for (const std::string& name : names) TRY(catalog->acquire(name, kForever));
  std::unique_ptr<BatchJournal> journal = TRY(open_journal());
  const std::unique_ptr<serve::Server> server =
      TRY(serve::Server::start(options.server, std::move(catalog), std::move(journal)));
  announce(*server, options.json);
  in_site->enter(*server);
  const auto gateway = TRY(start_gateway(*server, options.gateway));
  notify_service("READY=1");

  const auto well = [&] { return server->responds(std::chrono::seconds(2)); };
  while (signals.next({}, well) != ServiceSignals::Signal::kEnd) reload(*server, options.security, gateway.get());
  notify_service("STOPPING=1");
  fmt::print(stderr, "Finishing what runs (at most {} s; a second signal ends at once)\n", options.drain_seconds);
  for (int waited = 0; waited < options.drain_seconds * 10; ++waited) {
    if (server->drain(std::chrono::milliseconds(100))) break;
    if (signals.next(std::chrono::milliseconds(1)) == ServiceSignals::Signal::kEnd) break;
  }
  in_site->leave();
  return {};
}

void declare_network(CLI::App& app, ServeOptions& options) {
  SecurityOptions& security = options.security;
  app.add_option("--listen", security.listen,
                 "HOST:PORT, :PORT or unix:/path; may be given several times (default: 127.0.0.1:8080)")
      ->allow_extra_args(false);
  app.add_flag("--ollama", security.ollama, "Listen on 127.0.0.1:11434, too, where clients of Ollama look");
  app.add_option("--key-file,--api-key-file", security.key_file,
                 "Keys as `hearth key` keeps them (default: $HEARTH_HOME/serve/keys.json)");
  app.add_flag("--require-key", options.server.access.always_key, "A key is needed on this machine, too");
  app.add_option("--tls-cert", security.certificate, "Certificate (PEM) for TLS, on every address");
  app.add_option("--tls-key", security.certificate_key, "Its private key (PEM)");
  app.add_flag("--tls-self-signed", security.self_signed, "TLS on every address, with a certificate of its own");
  app.add_flag("--insecure-no-tls", security.insecure_no_tls,
               "No TLS on addresses that others can reach (behind a proxy that does it)");
  app.add_option("--allow-host", security.allow_hosts, "A further name this machine is called by; * for any")
      ->allow_extra_args(false);
  app.add_option("--allow-origin", options.server.access.allow_origins, "Pages that may ask: https://HOST; * for any")
      ->allow_extra_args(false);
  app.add_option("--body-megabytes", options.body_megabytes, "Largest request")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<ServeOptions>();
  app.add_option("MODEL", options->catalog.models,
                 "Models to load now and keep: names in the store or files; others are loaded when asked for");
  declare_network(app, *options);
  declare_door_options(app, options->doors);
  declare_model_options(app, options->catalog.model);
  declare_speculate_option(app, options->catalog.model);
  declare_exit_kld_option(app, options->catalog.model);
  declare_adapter_option(app, options->catalog.model);
  declare_chain_options(app, options->catalog.model);
  declare_power_options(app, options->power);
  declare_cores_option(app, options->power);
  declare_fallback_option(app, options->power);
  app.add_option("--gateway", options->gateway.config,
                 "Devices, too: the profile of a site as `hearth gateway` takes it, which asks this server's models");
  app.add_option("--gateway-listen", options->gateway.security.listen, "HOST:PORT of the gateway's page and JSON")
      ->capture_default_str();
  app.add_option("--parallel", options->catalog.engine.parallel, "Sequences computed at once, per model")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--queue", options->catalog.engine.queue_max, "Requests that may wait, per model")
      ->capture_default_str();
  app.add_option(
      "--memory", options->memory,
      "All memory that may be taken: 512MiB, 4G (default: four fifths of the machine's, for models); a model "
      "that does not fit reads some of its weights from disk for every token");
  app.add_option("--keep-alive", options->catalog.keep_alive_seconds,
                 "Seconds a model stays after its last use; -1: for ever")
      ->capture_default_str()
      ->check(CLI::Range(-1, 1 << 30));
  declare_swap_options(app, options->swap);
  app.add_option(
      "--session-folder", options->session_folder,
      "Lets clients save conversations with their state in this folder, sealed, and load them (/v1/sessions)");
  app.add_option("--alias", options->catalog.aliases, "ALIAS=MODEL: another name of a model")->allow_extra_args(false);
  app.add_option("--drain", options->drain_seconds, "Seconds that running requests have when the server is ended")
      ->capture_default_str()
      ->check(CLI::Range(0, 3600));
  app.add_option("--log-format", options->log_form, "Of the line per request on stderr: text, json or off")
      ->capture_default_str()
      ->check(CLI::IsMember({"text", "json", "off"}));
  app.add_flag("--json", options->json, "When it listens, one line of JSON on stdout: its addresses");
  app.add_option("--otlp", options->server.otlp_endpoint,
                 "Send traces to this OpenTelemetry collector: http://HOST:4318");
  app.add_flag("--metrics-vllm", options->server.vllm_metrics, "Metrics also under the names that vLLM uses");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kServe;
const Command kServe{"serve", "answer other programs over HTTP (OpenAI, Ollama and Anthropic clients)",
                     "  hearth serve default\n"
                     "  hearth serve --ollama                        # loads models when asked; port 11434, too\n"
                     "  hearth serve default --listen 0.0.0.0:8443   # makes a key and a certificate on first start\n"
                     "  curl http://127.0.0.1:8080/ready",
                     declare};

}  // namespace hearth::cli
