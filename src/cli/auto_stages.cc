#include "cli/auto_stages.h"

#include "base/log.h"
#include "base/system_file.h"
#include "cli/cluster_plan.h"
#include "cli/output.h"
#include "cli/site_presence.h"
#include "cluster/decode_rate.h"
#include "cluster/frame_link.h"
#include "model/memory_plan.h"
#include "vault/key.h"

namespace hearth::cli {
namespace {

using cluster::Member;
using cluster::PlannerMachine;

constexpr std::chrono::milliseconds kBrokerPatience{5000}, kLook{1000};
constexpr int kPings = 3;
// What machines say is free is not all for models.
constexpr double kOfMemory = 0.9;
constexpr double kLinkBytesPerSecond = 1e8;  // taken for granted: rows are small, what counts is the time of a hop

// Half the shortest time of a ping to it and back; kIo if it is not to be reached from here.
Result<double> hop_seconds(const SiteTls& tls, const ListenAddress& address) {
  const auto link = TRY(PeerLink::dial(tls, address, kLook));
  cluster::SessionId look{};
  fill_random(look);
  TRY(link->send_all(cluster::to_bytes({0, 0, cluster::Hello{cluster::LinkClass::kControl, look}}), kLook));
  cluster::FrameReader reader;
  double best = 1;
  for (int i = 0; i < kPings; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    TRY(link->send_all(cluster::to_bytes({0, 0, cluster::Ping{}}), kLook));
    TRY(cluster::next_frame(*link, reader, kLook));
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best / 2;
}

std::string describe(const cluster::PlannedChain& planned, const std::vector<PlannerMachine>& machines, int n_layers) {
  if (planned.plan.stages.empty())
    return fmt::format("all {} layers here; {} other machines would not make it faster", n_layers, machines.size() - 1);
  std::string text = planned.plan.own_end > 0 ? fmt::format("layers 0-{} here", planned.plan.own_end) : "";
  for (const auto& [node, layers] : planned.plan.stages)
    text += fmt::format("{}{}-{} on {}", text.empty() ? "layers " : ", ", layers.first, layers.end,
                        machines[static_cast<size_t>(node)].name);
  return text;
}

}  // namespace

Result<void> choose_stages(const ModelOptions& options, const Model& model, const DecoderConfig& config,
                           cluster::Presence* presence, cluster::RemoteChainOptions& chain) {
  if (!presence)
    return fail(Code::kNotFound,
                "--stages auto: the site has no broker; name machines (--stages HOST:PORT,...), or make "
                "one: hearth cluster init --broker HOST:PORT");
  TRY(presence->wait(kBrokerPatience));
  const Member here = describe_machine("owner")();
  const auto of_memory = [](uint64_t bytes) { return static_cast<uint64_t>(kOfMemory * static_cast<double>(bytes)); };
  std::vector<PlannerMachine> machines{{.name = presence->name(),
                                        .memory_bytes = of_memory(here.memory_bytes),
                                        .bytes_per_second = TRY(cluster::measure_decode(*model.backend)),
                                        .link_bytes_per_second = kLinkBytesPerSecond}};
  for (const Member& member : presence->members()) {
    if (member.stages_at.empty() || member.bytes_per_second <= 0) continue;
    const auto address = parse_listen_address(member.stages_at);
    const auto hop = address ? hop_seconds(*chain.tls, *address) : Result<double>(std::unexpected(address.error()));
    if (!hop) {
      LOG(kWarning, "{}: {}", member.name, hop.error().message);
      continue;
    }
    chain.nodes.push_back(*address);
    machines.push_back({.name = member.name,
                        .memory_bytes = of_memory(member.memory_bytes),
                        .bytes_per_second = member.bytes_per_second,
                        .link_seconds = *hop,
                        .link_bytes_per_second = kLinkBytesPerSecond});
  }
  const KvType kv_type = TRY(parse_kv_type(options.kv_type));
  const int context = TRY(plan_memory(*model.checkpoint, *model.backend, options.context, kv_type)).context;
  const int streams = std::max(options.parallel, 1);
  const cluster::PlannerModel wanted = planner_model(*model.checkpoint, config, *model.backend,
                                                     {.context = context, .kv_type = kv_type, .streams = streams});
  cluster::PlannedChain planned = TRY(cluster::plan_chain(wanted, machines, {.streams = streams}));
  fmt::print(stderr, "{} machines of the site: {}\n", machines.size(), describe(planned, machines, config.n_layers()));
  // The owner is no node; those without layers are spare ones.
  for (auto& stage : planned.plan.stages) --stage.node;
  chain.plan = std::move(planned.plan);
  return {};
}

}  // namespace hearth::cli
