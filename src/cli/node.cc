#include "cluster/node.h"

#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/file_io.h"
#include "cli/chain_options.h"
#include "cli/command.h"
#include "cli/service.h"
#include "cli/settings.h"
#include "cli/site_presence.h"
#include "cluster/machine_rates.h"
#include "cluster/pack_part.h"
#include "cluster/site.h"
#include "model/open_cached.h"
#include "power/overload.h"

namespace hearth::cli {
namespace {

// So long owners have to take their layers elsewhere.
constexpr std::chrono::seconds kLeave{10};
constexpr std::chrono::seconds kLook{1};  // at heat and battery

struct Options {
  ModelOptions model;
  power::Overload::Limits overload;
  std::string listen = "127.0.0.1:7950", address, join, name = machine_name();
};

std::filesystem::path parts_folder(const PackCache& cache) { return cache.folder().parent_path() / "parts"; }

// From the cache of packs if the model was run here, else the parts that are needed, from whoever asks for the work.
Result<Checkpoint> open_model(const PackCache& cache, std::mutex& fetching, const cluster::Assign& assignment,
                              const cluster::PackSources& sources) {
  const std::string digest = to_hex(assignment.model);
  const std::filesystem::path place = cache.place(digest, pack_layout());
  if (auto pack = open_pack_of(place, digest); pack) {
    cache.touch(place);
    return pack;
  }
  const std::scoped_lock lock(fetching);
  return cluster::open_pack_part(parts_folder(cache), assignment, sources);
}

Result<std::vector<std::byte>> read_piece(const PackCache& cache, const cluster::Want& want) {
  const std::filesystem::path place = cache.place(to_hex(want.model), pack_layout());
  const Descriptor fd(::open(place.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return cluster::read_pack_part(parts_folder(cache), want);
  std::vector<std::byte> bytes(want.bytes);
  bytes.resize(TRY(read_at(fd.get(), want.offset, bytes, place)));
  return bytes;
}

// Says in the site that this machine runs layers; null where the site has no broker.
Result<std::unique_ptr<cluster::Presence>> announce(const Options& options, const Store& store,
                                                    const std::shared_ptr<SiteTls>& tls, const cluster::Node& node,
                                                    const cluster::MachineRates& rates) {
  const ListenAddress listen = TRY(parse_listen_address(options.listen));
  std::vector<cluster::MemberModel> models;
  if (const auto list = store.list())
    for (const Manifest& manifest : *list) models.push_back({.name = manifest.name});
  auto place = std::make_shared<std::atomic<cluster::Presence*>>(nullptr);
  auto presence = TRY(join_bus(
      tls, [=, &node, about = describe_machine(fmt::format("node-{}", node.port())), address = options.address] {
        cluster::Member member = about();
        member.bytes_per_second = rates.bytes_per_second;
        member.prompt_bytes_per_second = rates.prompt_bytes_per_second;
        member.stages_at = address.empty() ? reachable_address(listen, node.port(), place->load()) : address;
        member.models = models;
        member.stages = node.stages();
        return member;
      }));
  *place = presence.get();
  if (!presence)
    fmt::print(stderr, "The site has no broker: owners have to be given this machine's address (--stages)\n");
  return presence;
}

Result<void> run(const Options& options) {
  ServiceSignals signals;  // before any thread
  if (!options.join.empty()) {
    const cluster::Invitation invitation = TRY(cluster::parse_invitation(options.join));
    TRY(cluster::join_site(site_folder(), invitation, options.name));
    fmt::print(stderr, "Joined the site as {}.\n", options.name);
  }
  const Store store = TRY(open_store());
  const auto cache = open_cache(store);
  if (!cache) return fail(Code::kIo, "{}: a node needs its cache of packs", store.root().string());
  std::mutex fetching;
  cluster::NodeOptions node;
  node.listen = TRY(parse_listen_address(options.listen));
  node.tls = TRY(cluster::open_site(site_folder()));
  node.backend = TRY(make_backend(options.model));
  node.open_model = [&](const cluster::Assign& assignment, const cluster::PackSources& sources) {
    return open_model(*cache, fetching, assignment, sources);
  };
  node.read_piece = [&](const cluster::Want& want) { return read_piece(*cache, want); };
  node.terms = TRY(cluster::TermFile::open(site_folder() / "terms"));
  const std::shared_ptr<SiteTls> tls = node.tls;
  const cluster::MachineRates rates = TRY(cluster::measure_rates(*node.backend));
  const auto running = TRY(cluster::Node::start(std::move(node)));
  fmt::print(stderr, "Listening on port {} for owners of this site\n", running->port());
  const auto presence = TRY(announce(options, store, tls, *running, rates));
  if (presence) presence->relay().set_accept([&](Descriptor accepted) { running->take(std::move(accepted)); });
  notify_service("READY=1");
  power::Sensors sensors;
  power::Overload overload(options.overload);
  for (bool away = false; signals.next(kLook) != ServiceSignals::Signal::kEnd;) {
    if (overload.update(sensors.read()) == away) continue;
    away = !away;
    fmt::print(stderr, "{}\n",
               away ? "Too hot, or the battery is low: owners are asked to take their layers elsewhere."
                    : "Cool and charged enough to run layers again.");
    running->set_away(away);
  }
  notify_service("STOPPING=1");
  running->leave(kLeave);
  const cluster::NodeStats stats = running->stats();
  fmt::print(stderr,
             "{} steps of {} assignments; {} connections, {} refused; {} steps of old epochs, {} owners of old terms\n",
             stats.steps, stats.assignments, stats.connections, stats.refused, stats.stale_steps, stats.stale_owners);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--listen", options->listen, "HOST:PORT on which owners of models reach this machine")
      ->capture_default_str();
  app.add_option(
      "--address", options->address,
      "HOST:PORT under which the site is told of this machine (default: of --listen, or as the broker sees it)");
  app.add_option("--join", options->join, "Join a site first, with the token of `hearth cluster invite`");
  app.add_option("--name", options->name, "With --join: what this machine is called in the site");
  app.add_option("--threads,-t", options->model.n_threads, "Threads (default: HEARTH_THREADS, or the physical cores)")
      ->check(CLI::Range(0, 1024));
  app.add_option("--max-temp", options->overload.max_temperature_c,
                 "Above so many degrees Celsius, wants no layers (default: where the system would slow down)")
      ->check(CLI::Range(30.0, 120.0));
  app.add_option("--battery-floor", options->overload.battery_floor,
                 "On the battery and at so many percent or fewer, wants no layers")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 90.0));
  app.add_option("--backend", options->model.backend, "What computes: cpu, or reference")->capture_default_str();
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kNode;
const Command kNode{"node", "run layers for other machines of the site",
                    "  hearth node --listen 0.0.0.0:7950 --join 10.0.0.1:7949/AUTHORITY/SECRET\n"
                    "  hearth node --listen 0.0.0.0:7950\n"
                    "  hearth run default \"Hello\" --stages auto   # on the owner",
                    declare};

}  // namespace hearth::cli
