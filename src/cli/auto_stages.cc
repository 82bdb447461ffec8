#include "cli/auto_stages.h"

#include "base/log.h"
#include "base/system_file.h"
#include "cli/cluster_plan.h"
#include "cli/output.h"
#include "cli/site_presence.h"
#include "cluster/machine_rates.h"
#include "model/memory_plan.h"

namespace hearth::cli {
namespace {

using cluster::Member;
using cluster::PlannerMachine;

constexpr std::chrono::milliseconds kBrokerPatience{5000};
// What machines say is free is not all for models.
constexpr double kOfMemory = 0.9;
constexpr int kUsualPrompt = 256;  // rows
// A machine slowed down by heat has less than it measured when it started.
constexpr double kHot = 0.5;

std::string describe(const cluster::PlannedChain& planned, const std::vector<PlannerMachine>& machines, int n_layers) {
  if (planned.plan.stages.empty() && planned.head == 0)
    return fmt::format("all {} layers here; {} other machines would not make it faster", n_layers, machines.size() - 1);
  std::string text = planned.plan.own_end > 0 ? fmt::format("layers 0-{} here", planned.plan.own_end) : "";
  for (const auto& [node, layers] : planned.plan.stages)
    text += fmt::format("{}{}-{} on {}", text.empty() ? "layers " : ", ", layers.first, layers.end,
                        machines[static_cast<size_t>(node)].name);
  if (planned.head > 0) text += fmt::format(", the head on {}", machines[static_cast<size_t>(planned.head)].name);
  text += fmt::format("; {:.0f} tokens/s expected, ", planned.tokens_per_second);
  return text + (planned.alone_fits ? fmt::format("{:.0f} of this machine alone", planned.alone_tokens_per_second)
                                    : "and this machine alone has no room for it");
}

}  // namespace

Result<void> choose_stages(const ModelOptions& options, const Model& model, const DecoderConfig& config,
                           cluster::Presence* presence, cluster::RemoteChainOptions& chain,
                           std::optional<ListenAddress>& head) {
  if (!presence)
    return fail(Code::kNotFound,
                "--stages auto: the site has no broker; name machines (--stages HOST:PORT,...), or make "
                "one: hearth cluster init --broker HOST:PORT");
  TRY(presence->wait(kBrokerPatience));
  const Member here = describe_machine("owner")();
  const auto of_memory = [](uint64_t bytes) { return static_cast<uint64_t>(kOfMemory * static_cast<double>(bytes)); };
  const cluster::MachineRates own = TRY(cluster::measure_rates(*model.backend));
  std::vector<PlannerMachine> machines{{.name = presence->name(),
                                        .memory_bytes = of_memory(here.memory_bytes),
                                        .bytes_per_second = own.bytes_per_second,
                                        .prompt_bytes_per_second = own.prompt_bytes_per_second}};
  for (const Member& member : presence->members()) {
    if (member.stages_at.empty() || member.bytes_per_second <= 0) continue;
    const auto address = parse_listen_address(member.stages_at);
    const auto link = address ? cluster::measure_link(*chain.tls, *address)
                              : Result<cluster::LinkRates>(std::unexpected(address.error()));
    if (!link) {
      LOG(kWarning, "{}: {}", member.name, link.error().message);
      continue;
    }
    const double left = member.hot ? kHot : 1;
    chain.nodes.push_back(*address);
    machines.push_back({.name = member.name,
                        .memory_bytes = of_memory(member.memory_bytes),
                        .bytes_per_second = left * member.bytes_per_second,
                        .prompt_bytes_per_second = left * member.prompt_bytes_per_second,
                        .link_seconds = link->seconds,
                        .link_bytes_per_second = link->bytes_per_second,
                        .battery = member.battery});
    LOG(kInfo, "{}: {:.1f} GB/s of weights, {:.2f} ms and {:.0f} Mbit/s away{}{}", member.name,
        member.bytes_per_second / 1e9, 1e3 * link->seconds, 8e-6 * link->bytes_per_second, member.hot ? ", hot" : "",
        member.battery ? ", on a battery" : "");
  }
  const KvType kv_type = TRY(parse_kv_type(options.kv_type));
  const int context = TRY(plan_memory(*model.checkpoint, *model.backend, options.context, kv_type)).context;
  const int streams = std::max(options.parallel, 1);
  const cluster::PlannerModel wanted = planner_model(*model.checkpoint, config, *model.backend,
                                                     {.context = context, .kv_type = kv_type, .streams = streams});
  uint64_t bytes = wanted.ends.bytes;
  for (const cluster::PlannerLayer& layer : wanted.layers) bytes += layer.bytes;
  if (bytes > machines[0].memory_bytes)  // what fits is not read while it runs
    if (const auto disk = cluster::measure_disk(model.checkpoint->path())) machines[0].disk_bytes_per_second = *disk;
  cluster::PlannedChain planned =
      TRY(cluster::plan_chain(wanted, machines, {.streams = streams, .prompt_rows = kUsualPrompt}));
  if (planned.streamed_bytes > 0)
    return fail(
        Code::kLimit,
        "{} machines of the site have no room for the model, or are slower than this one's disk; this one alone, with "
        "weights read from its disk, would do {:.1f} tokens/s: leave out --stages, and give --memory {}MiB",
        machines.size(), planned.tokens_per_second, planned.bytes[0] >> 20);
  chain.why = describe(planned, machines, config.n_layers());
  fmt::print(stderr, "{} machines of the site: {}\n", machines.size(), chain.why);
  if (planned.head > 0) head = chain.nodes[static_cast<size_t>(planned.head) - 1];
  // The owner is no node; those without layers are spare ones.
  for (auto& stage : planned.plan.stages) --stage.node;
  chain.plan = std::move(planned.plan);
  return {};
}

}  // namespace hearth::cli
