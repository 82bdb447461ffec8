// `hearth gateway`: devices, rules and a guard, as a service or to look at.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/json.h"
#include "cli/command.h"
#include "cli/gateway_service.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/service.h"
#include "cli/settings.h"
#include "net/http_call.h"
#include "net/http_transfer.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;

struct Options {
  GatewayFlags gateway;
  std::string check_file, server = "http://127.0.0.1:8090", token;
  int count = 0;
  bool verify = false, json = false;
};

Result<void> run(const GatewayFlags& flags) {
  ServiceSignals signals;  // before any thread
  if (flags.config.empty()) return fail(Code::kInvalidArgument, "--config FILE: the site's profile (docs/gateway.md)");
  const auto service = TRY(GatewayService::start(flags));
  notify_service("READY=1");
  for (auto signal = signals.next(); signal != ServiceSignals::Signal::kEnd; signal = signals.next()) {
    if (signal != ServiceSignals::Signal::kReload) continue;
    notify_service("RELOADING=1");
    service->reload();
    notify_service("READY=1");
  }
  notify_service("STOPPING=1");
  return {};
}

void print(const json::value& answer) { fmt::print("{}\n", json::serialize(answer)); }

Result<void> check(const Options& options) {
  const gateway::Site site = TRY(gateway::Site::load(options.check_file));
  const gateway::Rules& rules = site.rules;
  if (options.json) {
    print(json::object{{"file", options.check_file},
                       {"signals", site.profile.signals.size()},
                       {"adapters", site.profile.adapters.size()},
                       {"rules", rules.rules.size()},
                       {"guards", rules.guards.size()},
                       {"interlocks", rules.interlocks.size()}});
    return {};
  }
  fmt::print("{}: {} signals, {} adapters, {} rules, {} guards, {} interlocks\n", options.check_file,
             site.profile.signals.size(), site.profile.adapters.size(), rules.rules.size(), rules.guards.size(),
             rules.interlocks.size());
  return {};
}

Result<json::value> fetch(const Options& options, std::string_view path) {
  constexpr uint64_t kAnswerBytes = 16u << 20;
  HttpOptions http;
  http.bearer_token = environment("HEARTH_API_KEY");
  const Url url = TRY(parse_url(options.server + std::string(path)));
  const std::string text = TRY(http_get_text(url, http, kAnswerBytes));
  return parse_json(text);
}

std::string cell(const json::object& row, std::string_view key) {
  const json::value* value = row.if_contains(key);
  if (value == nullptr) return "";
  if (const double* number = value->if_double()) return fmt::format("{:.6g}", *number);
  return value->is_string() ? std::string(value->get_string()) : json::serialize(*value);
}

// Rows of an answer's list; another version's may lack some cells.
std::string rows_of(const json::value& list, const std::vector<std::string>& keys, size_t most) {
  std::vector<std::vector<std::string>> rows{keys};
  if (const json::array* entries = list.if_array())
    for (const json::value& each : *entries) {
      if (rows.size() > most || !each.is_object()) break;
      auto& row = rows.emplace_back();
      for (const std::string& key : keys) row.push_back(cell(each.get_object(), key));
    }
  return table(rows);
}

json::value part(const json::value& answer, std::string_view key) {
  const json::object* object = answer.if_object();
  const json::value* found = object == nullptr ? nullptr : object->if_contains(key);
  return found == nullptr ? json::value() : *found;
}

Result<void> top(const Options& options) {
  const bool live = ::isatty(STDOUT_FILENO) != 0 && !options.json;
  const int count = options.count > 0 ? options.count : live ? 0 : 1;
  InterruptFlag interrupt;
  for (int n = 1;; ++n) {
    const json::value state = TRY(fetch(options, "/v1/gateway"));
    const json::value signals = TRY(fetch(options, "/v1/gateway/signals?limit=20"));
    const json::value decisions = TRY(fetch(options, "/v1/gateway/decisions"));
    const json::value pending = TRY(fetch(options, "/v1/gateway/pending"));
    if (options.json)
      print(json::object{{"gateway", state},
                         {"signals", part(signals, "data")},
                         {"decisions", part(decisions, "data")},
                         {"pending", part(pending, "data")}});
    else
      fmt::print(
          "{}{}\n{}\n{}\n{}\n{}", live ? "\x1b[H\x1b[2J" : "",
          rows_of(part(state, "adapters"), {"name", "type", "state", "received", "sent", "refused", "waiting"}, 20),
          rows_of(part(state, "queue"), {"class", "records", "bytes", "dropped"}, 3),
          rows_of(part(signals, "data"), {"name", "value", "unit", "quality"}, 20),
          rows_of(part(decisions, "data"), {"rule", "chosen", "by", "outcome", "why"}, 10),
          rows_of(part(pending, "data"), {"token", "source", "signal", "value", "seconds_left"}, 10));
    std::fflush(stdout);
    if (n == count) return {};
    for (int i = 0; i < 50 && !interrupt.raised(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (interrupt.raised()) return {};
  }
}

Result<void> audit(const Options& options) {
  const auto audit = TRY(gateway::Audit::open(gateway_folder(options.gateway)));
  if (!options.verify) {
    json::array rows;
    for (const gateway::AuditRow& row : TRY(audit->last(options.count > 0 ? static_cast<size_t>(options.count) : 50))) {
      if (options.json)
        rows.push_back({{"number", row.number},
                        {"time_ms", row.time_ms},
                        {"kind", row.kind},
                        {"what", parse_json(row.what).value_or(json::value(row.what))}});
      else
        fmt::print("{} {} {} {}\n", row.number, row.time_ms, row.kind, row.what);
    }
    if (options.json) print(json::object{{"rows", std::move(rows)}});
    return {};
  }
  const gateway::AuditReport report = TRY(audit->verify());
  if (options.json)
    print(json::object{{"ok", !report.broken},
                       {"rows", report.rows},
                       {"broken", report.broken ? json::value(*report.broken) : json::value()},
                       {"head", report.head}});
  if (report.broken)
    return fail(Code::kCorrupt, "row {} of {} does not fit the one before it: a row was changed, taken out or put in",
                *report.broken, report.rows);
  if (!options.json) fmt::print("{} rows, all fit; the last is {}\n", report.rows, report.head);
  return {};
}

Result<void> confirm(const Options& options) {
  const Url url = TRY(parse_url(options.server + "/v1/gateway/confirm"));
  std::vector<std::string> headers{"Content-Type: application/json"};
  if (const std::string key = environment("HEARTH_API_KEY"); !key.empty())
    headers.push_back("Authorization: Bearer " + key);
  const std::string body = json::serialize(json::object{{"token", options.token}});
  const HttpReply reply =
      TRY(http_call(url, {.headers = headers, .body = body, .total_max = std::chrono::seconds(10)}));
  if (reply.status == 200) {
    if (options.json)
      print(json::object{{"confirmed", true}});
    else
      fmt::print("confirmed\n");
    return {};
  }
  const auto said = parse_json(reply.body);
  const json::value message = said ? part(part(*said, "error"), "message") : json::value();
  return fail(reply.status == 404 ? Code::kNotFound : Code::kInvalidArgument, "{}",
              message.is_string() ? std::string_view(message.get_string()) : std::string_view(reply.body));
}

using Act = Result<void> (*)(const Options&);

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto act = std::make_shared<Act>(nullptr);
  app.add_option("--config", options->gateway.config, "The site's profile: signals, adapters, rules (TOML)");
  app.add_option("--folder", options->gateway.folder, "Queue and audit (default: gateway/ in Hearth's folder)");
  app.add_option("--serve", options->gateway.serve,
                 "Ask the model of this server: http://127.0.0.1:8080 (default: rules alone)");
  app.add_option("--listen", options->gateway.security.listen,
                 "HOST:PORT of the page, JSON and metrics; others than loopback get TLS and keys")
      ->capture_default_str();
  app.add_option("--key-file", options->gateway.security.key_file, "Keys of `hearth key` (default: the server's)");
  const auto sub = [&](const char* name, const char* what, Act action) {
    CLI::App* command = app.add_subcommand(name, what);
    command->callback([act, action] { *act = action; });
    return command;
  };
  const auto as_json = [&](CLI::App* command, const char* what) {
    command->add_flag("--json", options->json, std::string("Print JSON: ") + what);
  };
  CLI::App* checked = sub("check", "read a profile and say what is wrong with it", check);
  checked->add_option("FILE", options->check_file, "The profile")->required();
  as_json(checked, "{file, signals, adapters, rules, guards, interlocks}");
  CLI::App* shown = sub("top", "show adapters, signals, decisions and what waits for a person", top);
  shown->add_option("--server", options->server, "The gateway (key: HEARTH_API_KEY)")->capture_default_str();
  shown->add_option("--count", options->count, "Looks so many times (default: once; on a terminal until Ctrl-C)");
  as_json(shown, "a line for each look: {gateway, signals, decisions, pending}");
  CLI::App* audited = sub("audit", "show or verify what was decided and done", audit);
  audited->add_flag("--verify", options->verify, "Check that no row was changed, taken out or put in");
  audited->add_option("--count", options->count, "So many rows (default: 50)");
  audited->add_option("--folder", options->gateway.folder, "Where the audit is");
  as_json(audited, "{rows: [{number, time_ms, kind, what}]}; with --verify {ok, rows, broken, head}");
  CLI::App* confirmed = sub("confirm", "confirm an action that waits", confirm);
  confirmed->add_option("TOKEN", options->token, "Its token, as `top` shows it")->required();
  confirmed->add_option("--server", options->server, "The gateway (key: HEARTH_API_KEY)")->capture_default_str();
  as_json(confirmed, "{confirmed}");
  app.require_subcommand(0, 1);
  return [options, act] { return *act == nullptr ? run(options->gateway) : (*act)(*options); };
}

}  // namespace

extern const Command kGateway;
const Command kGateway{"gateway", "turn values of devices into guarded actions",
                       "  hearth gateway --config site.toml\n"
                       "  hearth gateway --config site.toml --serve http://127.0.0.1:8080\n"
                       "  hearth gateway check site.toml\n"
                       "  hearth gateway top\n"
                       "  hearth gateway audit --verify --json",
                       declare};

}  // namespace hearth::cli
