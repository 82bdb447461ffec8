#include "cli/door_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/value_to.hpp>
#include <random>

#include "base/mapped_file.h"
#include "cli/chain_options.h"
#include "cluster/site.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;

// "model:NAME=POLICY", "key:NAME=POLICY" or "class:NAME=POLICY".
Result<void> read_limit(const std::string& text, serve::ReachRules& rules) {
  const size_t colon = text.find(':'), equals = text.rfind('=');
  if (colon == std::string::npos || equals == std::string::npos || equals < colon + 2)
    return fail(Code::kInvalidArgument, "--policy-of {}: want model:NAME=POLICY, key:NAME=POLICY or class:NAME=POLICY",
                text);
  const std::string what = text.substr(0, colon), name = text.substr(colon + 1, equals - colon - 1);
  const serve::Reach reach = TRY(serve::parse_reach(text.substr(equals + 1)));
  auto* table = what == "model"   ? &rules.models
                : what == "key"   ? &rules.keys
                : what == "class" ? &rules.classes
                                  : nullptr;
  if (!table) return fail(Code::kInvalidArgument, "--policy-of {}: '{}' is no model, key or class", text, what);
  (*table)[name] = reach;
  return {};
}

Result<std::shared_ptr<serve::Cloud>> open_cloud(const DoorFlags& flags) {
  if (flags.cloud_url.empty()) return nullptr;
  if (flags.cloud_model.empty() || flags.cloud_budget <= 0)
    return fail(Code::kInvalidArgument, "--cloud needs --cloud-model NAME and --cloud-budget TOKENS a day");
  serve::CloudOptions options;
  std::string url = flags.cloud_url;
  while (url.ends_with('/')) url.pop_back();
  options.url = TRY(parse_url(url));
  options.model = flags.cloud_model;
  options.tokens_per_day = flags.cloud_budget;
  options.patience = std::chrono::milliseconds(static_cast<int64_t>(flags.cloud_timeout * 1e3));
  options.budget_file = serve_folder() / "cloud-budget.json";
  if (!flags.cloud_key_file.empty()) {
    constexpr uint64_t kKeyBytes = 4096;
    options.key = TRY(read_file(flags.cloud_key_file, kKeyBytes));
    while (!options.key.empty() && std::isspace(static_cast<unsigned char>(options.key.back()))) options.key.pop_back();
    if (options.key.find_first_of("\r\n") != std::string::npos)
      return fail(Code::kInvalidArgument, "{}: want one line, the key", flags.cloud_key_file.string());
  }
  return serve::Cloud::create(std::move(options));
}

// Equal for servers whose tokens are equal.
std::string computing(const ModelCatalogOptions& catalog) {
  const ModelOptions& model = catalog.model;
  std::string text = fmt::format("{} kv {} precision {} context {} exit {} experts {} rows {} ", HEARTH_VERSION,
                                 name(catalog.engine.kv_type), model.precision, model.context, model.exit_kld,
                                 model.experts, model.row_bits);
  if (may_switch_precision(model)) text += std::to_string(std::random_device()());  // like nobody else
  return text;
}

std::optional<double> number(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value && value->is_object()) value = value->get_object().if_contains("value");
  const auto read = json::try_value_to<double>(value ? *value : json::value());
  return read ? std::optional(*read) : std::nullopt;
}

serve::DoorOptions::Power power_of(const power::Governor& governor) {
  const json::object state = governor.state();
  serve::DoorOptions::Power power;
  if (const auto* settings = state.if_contains("settings"); settings && settings->is_object())
    power.share = number(settings->get_object(), "share").value_or(1);
  const auto* sensors = state.if_contains("sensors");
  if (!sensors || !sensors->is_object()) return power;
  if (const auto* battery = sensors->get_object().if_contains("on_battery"); battery && *battery == true)
    power.battery_percent = number(sensors->get_object(), "battery_percent");
  return power;
}

}  // namespace

void declare_door_options(CLI::App& app, DoorFlags& flags) {
  app.add_option("--door", flags.listen, "HOST:PORT where other servers of the site reach this one")
      ->allow_extra_args(false);
  app.add_option(
         "--peers", flags.peers,
         "HOST:PORT,... of the doors of others, which share the work (a site with a broker finds them by itself)")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--insecure-doors", flags.insecure,
               "Doors without a site's certificates on addresses that others can reach");
  app.add_option("--policy", flags.policy, "How far requests may travel that do not say: local-only, site or any")
      ->capture_default_str()
      ->check(CLI::IsMember({"local-only", "site", "any"}));
  app.add_option("--policy-of", flags.limits,
                 "model:NAME=POLICY, key:NAME=POLICY or class:NAME=POLICY: no further, whatever a request says")
      ->allow_extra_args(false);
  app.add_option("--cloud", flags.cloud_url,
                 "https://HOST/v1 of an OpenAI-compatible server, for requests whose policy is any, where this site "
                 "is full, too slow for a deadline, or lacks the model");
  app.add_option("--cloud-model", flags.cloud_model, "The model to ask it for");
  app.add_option("--cloud-key-file", flags.cloud_key_file, "A file with its key");
  app.add_option("--cloud-budget", flags.cloud_budget, "Tokens a day it may take");
  app.add_option("--cloud-timeout", flags.cloud_timeout, "Seconds it has for an answer")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
}

Result<void> open_doors(const DoorFlags& flags, const ModelCatalogOptions& catalog,
                        const std::shared_ptr<power::Governor>& governor,
                        std::function<std::vector<std::string>()> found, serve::ServerOptions& server) {
  if (flags.listen.empty() && flags.peers.empty() && flags.cloud_url.empty()) return {};
  serve::DoorOptions doors;
  doors.name = machine_name();
  doors.others = [peers = flags.peers, found = std::move(found)] {
    std::vector<std::string> all = peers;
    for (std::string& door : found())
      if (std::ranges::find(all, door) == all.end()) all.push_back(std::move(door));
    return all;
  };
  doors.computing = computing(catalog);
  doors.slots = catalog.engine.parallel;
  doors.queue_max = catalog.engine.queue_max;
  doors.reach.usual = TRY(serve::parse_reach(flags.policy));
  for (const std::string& limit : flags.limits) TRY(read_limit(limit, doors.reach));
  doors.cloud = TRY(open_cloud(flags));
  doors.power = [governor] { return power_of(*governor); };
  bool reached = server.access.always_key;  // whoever may use this machine is not simply believed
  for (const std::string& peer : flags.peers) reached = reached || !TRY(parse_listen_address(peer)).loopback();
  std::optional<ListenAddress> listen;
  if (!flags.listen.empty()) listen = TRY(parse_listen_address(flags.listen));
  reached = reached || (listen && !listen->loopback());
  std::shared_ptr<TlsContext> tls;
  if (const auto site = cluster::open_site(site_folder()); site && !flags.insecure) {
    doors.site = cluster::site_files(site_folder());
    tls = TlsContext::of(**site);
  } else if (reached && !flags.insecure && !(flags.peers.empty() && !listen)) {
    return within("--door and --peers",
                  site ? Error{Code::kInvalidArgument, "--insecure-doors is needed"} : site.error());
  }
  if (listen) server.http.listen.push_back({.address = *listen, .door = true, .site = std::move(tls)});
  server.doors = std::move(doors);
  return {};
}

}  // namespace hearth::cli
