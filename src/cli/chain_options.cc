#include "cli/chain_options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "base/limits.h"
#include "cli/auto_stages.h"
#include "cli/interrupt.h"
#include "cli/settings.h"
#include "cli/site_presence.h"
#include "cluster/lease.h"
#include "cluster/remote_chain.h"
#include "cluster/remote_head.h"
#include "cluster/site.h"
#include "model/arch/all.h"

namespace hearth::cli {
namespace {

using cluster::ChainPlan;

constexpr std::chrono::milliseconds kBrokerPatience{5000};

Result<int> parse_layer(std::string_view text, std::string_view whole) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0)
    return fail(Code::kInvalidArgument, "--stages {}: layers are FIRST-END, as 10-20", whole);
  return layer;
}

// HOST:PORT or HOST:PORT=FIRST-END; all stages say their layers, or none does.
Result<ChainPlan> read_stages(const ModelOptions& options, int n_layers, std::vector<ListenAddress>& nodes) {
  ChainPlan plan{.own_end = options.own_layers, .stages = {}};
  for (const std::string& given : options.stages) {
    const size_t equals = given.find('=');
    nodes.push_back(TRY(parse_listen_address(given.substr(0, equals))));
    if (equals == std::string::npos) continue;
    const std::string_view layers = std::string_view(given).substr(equals + 1);
    const size_t dash = layers.find('-');
    const int first = TRY(parse_layer(layers.substr(0, dash), given));
    const int end = TRY(parse_layer(dash == std::string_view::npos ? "" : layers.substr(dash + 1), given));
    if (plan.stages.empty()) plan.own_end = first;
    plan.stages.push_back({static_cast<int>(nodes.size()) - 1, {first, end}});
  }
  if (plan.own_end > n_layers)
    return fail(Code::kInvalidArgument, "--own-layers {}: the model has {}", plan.own_end, n_layers);
  if (plan.stages.empty())
    plan = cluster::even_plan(plan.own_end, n_layers, static_cast<int>(nodes.size()));
  else if (plan.stages.size() != nodes.size())
    return fail(Code::kInvalidArgument, "--stages: all of them say their layers (HOST:PORT=FIRST-END), or none");
  return plan;
}

Result<void> check_head(const ModelOptions& options) {
  const auto without = [](std::string_view what, std::string_view why) {
    return fail(Code::kInvalidArgument, "--head does not go together with {}: {}", what, why);
  };
  if (!options.memory.empty()) return without("--memory", "its bound is for a head that is here");
  if (!options.exits.empty() || options.exit_kld > 0 || options.draft == "self")
    return without("early exit", "what leaves early has heads of its own");
  if (options.no_cache) return without("--no-cache", "the head is a part of the model's pack");
  if (options.precision != "8") return without("--precision", "it is computed at full precision");
  TRY(parse_listen_address(options.head));
  return {};
}

// Kept as long as chain and head: lists of revoked certificates come over it, and the lease goes on.
struct Kept {
  std::unique_ptr<cluster::Presence> presence;
  std::unique_ptr<cluster::Lease> lease;
};

// `head`: where a plan has it, if it has it elsewhere.
Result<std::shared_ptr<Chain>> make_chain(const ModelOptions& options, const Model& model,
                                          const std::shared_ptr<SiteTls>& tls, const std::shared_ptr<Kept>& kept,
                                          std::optional<ListenAddress>& head) {
  const Family* family = TRY(find_family(*model.checkpoint));
  const DecoderConfig config = TRY(family->configure(ModelKeys(*model.checkpoint)));
  cluster::RemoteChainOptions chain;
  chain.tls = tls;
  chain.rows = options.row_bits == 32   ? cluster::RowFormat::kF32
               : options.row_bits == 16 ? cluster::RowFormat::kI16
                                        : cluster::RowFormat::kI8;
  if (auto_stages(options)) {
    TRY(choose_stages(options, model, config, kept->presence.get(), chain, head));
  } else {
    chain.plan = TRY(read_stages(options, config.n_layers(), chain.nodes));
    chain.why = "as --stages says";
    for (const std::string& spare : options.spares) chain.nodes.push_back(TRY(parse_listen_address(spare)));
  }
  if (!options.chain.empty()) {
    if (!kept->presence)
      return fail(Code::kNotFound, "--chain {}: the site has no broker to ask who has it", options.chain);
    TRY(kept->presence->wait(kBrokerPatience));
    const InterruptFlag interrupt;
    kept->lease = TRY(cluster::Lease::take(*kept->presence, site_folder() / "leases", options.chain, interrupt.flag()));
    chain.name = options.chain;
    chain.term = static_cast<uint32_t>(kept->lease->term());
    chain.taken_away = [lease = kept->lease.get()] { return lease->lost(); };
  }
  chain.kept = kept;
  return cluster::RemoteChain::create(std::move(chain), model.checkpoint->path(), model.backend);
}

}  // namespace

std::filesystem::path site_folder() { return home_folder() / "site"; }

std::string machine_name() {
  std::array<char, 64> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return "machine";
  std::string name;
  for (const char c : std::string_view(host.data()))
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.') name += c;
  return name.empty() ? "machine" : name;
}

void declare_chain_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--stages", options.stages,
                 "Machines of the site that run the layers, in order: HOST:PORT,... for even parts, or "
                 "HOST:PORT=FIRST-END,...; they run `hearth node`. auto: whoever is there and makes it faster, or "
                 "possible")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag_callback("--cluster", [&options] { options.stages = {"auto"}; }, "The same as --stages auto");
  app.add_option("--chain", options.chain,
                 "With --stages: a name for this use of the site; one owner at a time has it, the next waits");
  app.add_option("--spare", options.spares, "HOST:PORT,... of machines that take over when one with a stage is lost")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--own-layers", options.own_layers, "With --stages: this machine runs the first N layers itself")
      ->check(CLI::Range(0, static_cast<int>(limits::kLayers)));
  app.add_option(
      "--head", options.head,
      "HOST:PORT of a machine of the site that computes the output head, with or without --stages; while it is "
      "not to be had, this machine does");
  app.add_option("--row-bits", options.row_bits,
                 "With --stages: bits of each number between machines; 16 and 8 are for slow links, and give another "
                 "answer than one machine")
      ->capture_default_str()
      ->check(CLI::IsMember({32, 16, 8}));
}

Result<void> check_chain(const ModelOptions& options) {
  if (!options.head.empty()) TRY(check_head(options));
  if (!has_chain(options)) {
    if (options.spares.empty() && options.own_layers == 0 && options.chain.empty() && options.row_bits == 32) return {};
    return fail(Code::kInvalidArgument, "--spare, --own-layers, --row-bits and --chain go with --stages");
  }
  if (auto_stages(options) && (options.own_layers > 0 || !options.spares.empty()))
    return fail(Code::kInvalidArgument, "--stages auto chooses the owner's layers and spare machines itself");
  if (!options.chain.empty()) TRY(cluster::check_chain_name(options.chain));
  const auto without = [](std::string_view what, std::string_view why) {
    return fail(Code::kInvalidArgument, "--stages does not go together with {}: {}", what, why);
  };
  if (!options.adapters.empty()) return without("--adapter", "stages have no adapters");
  if (!options.memory.empty()) return without("--memory", "the layers are elsewhere");
  if (!options.exits.empty() || options.exit_kld > 0 || options.draft == "self")
    return without("early exit", "stages know no exits");
  if (options.experts > 0) return without("--experts", "stages use as many as the model was made for");
  if (options.no_cache) return without("--no-cache", "stages are parts of the model's pack");
  if (options.precision != "8") return without("--precision", "stages compute at full precision");
  if (options.kv_type != "f16" && options.kv_type != "i8")
    return without("--kv-type " + options.kv_type, "use f16 or i8; the others are measured on one machine");
  return {};
}

Result<void> use_machines(const ModelOptions& options, const Model& model, EngineOptions& engine) {
  if (!has_chain(options) && options.head.empty()) return {};
  const auto tls = TRY(cluster::open_site(site_folder()));
  const auto kept = std::make_shared<Kept>();
  kept->presence = TRY(join_bus(tls, nullptr));
  std::optional<ListenAddress> head;
  if (has_chain(options)) engine.chain = TRY(make_chain(options, model, tls, kept, head));
  if (!options.head.empty()) head = TRY(parse_listen_address(options.head));
  if (!head) return {};
  const DecoderConfig& config = model.decoder->config();
  engine.head =
      TRY(cluster::RemoteHead::create({.tls = tls, .node = *head, .kept = kept}, model.checkpoint->path(),
                                      static_cast<size_t>(config.d_model), static_cast<size_t>(config.n_vocab)));
  return {};
}

}  // namespace hearth::cli
