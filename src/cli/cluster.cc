#include <CLI/CLI.hpp>
#include <memory>

#include "cli/chain_options.h"
#include "cli/cluster_plan.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cluster/site.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string action, listen = "127.0.0.1:7949", name = machine_name();
  int minutes = 10;
  ClusterPlanOptions plan;
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

Result<void> run(const Options& options) {
  if (options.action == "invite") return invite(options);
  if (options.action == "plan") {
    if (options.plan.machines.empty())
      return fail(Code::kInvalidArgument, "hearth cluster plan MODEL needs --machines FILE");
    return plan_cluster(options.plan);
  }
  TRY(cluster::make_site(site_folder(), options.name));
  fmt::print(
      stderr,
      "A site was made: {}\nIts authority's key never leaves this machine. Invite others with: hearth cluster invite\n",
      site_folder().string());
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action,
                 "init: make a site; invite: let one machine in; plan: say which would run what")
      ->required()
      ->check(CLI::IsMember({"init", "invite", "plan"}));
  app.add_option("MODEL", options->plan.model.model, "plan: name in the store, .gguf file or pack");
  app.add_option("--machines", options->plan.machines,
                 "plan: JSON of what was measured of the machines, the owner first (docs/cluster.md)");
  app.add_option("--streams", options->plan.streams, "plan: answers at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--context,-c", options->plan.model.context, "plan: positions of a conversation")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--kv-type", options->plan.model.kv_type, "plan: how keys and values are kept")->capture_default_str();
  app.add_flag("--json", options->plan.json, "plan: as JSON");
  app.add_option("--listen", options->listen, "invite: HOST:PORT at which the other machine reaches this one")
      ->capture_default_str();
  app.add_option("--minutes", options->minutes, "invite: how long the token is good")
      ->capture_default_str()
      ->check(CLI::Range(1, 24 * 60));
  app.add_option("--name", options->name, "init: what this machine is called in the site");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kCluster;
const Command kCluster{"cluster", "make a site of machines that share a model",
                       "  hearth cluster init\n"
                       "  hearth cluster invite --listen 10.0.0.1:7949\n"
                       "  hearth cluster plan default --machines machines.json --streams 4",
                       declare};

}  // namespace hearth::cli
