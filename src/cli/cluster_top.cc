#include "cli/cluster_top.h"

#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <thread>

#include "cli/chain_options.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/site_presence.h"
#include "cluster/site.h"

namespace hearth::cli {
namespace {

using cluster::Member;
using cluster::Members;
using cluster::MemberStage;

constexpr std::chrono::milliseconds kBrokerPatience{5000};

std::string rate(double bytes_per_second) {
  return bytes_per_second > 0 ? fmt::format("{:.1f} GB/s", bytes_per_second / 1e9) : "-";
}

std::string state_of(const Members::Seen& seen, Members::Time now) {
  if (!seen.confirmed) return "not heard";
  if (!Members::there(seen, now)) return fmt::format("silent {} s", (now - seen.heard).count() / 1000);
  std::string text = seen.member.hot ? "hot" : "ok";
  return seen.member.battery ? text + ", battery" : text;
}

std::string shown(const std::string& text) { return text.empty() ? "-" : text; }

std::vector<std::string> lines(const std::vector<Members::Seen>& all, bool connected) {
  const Members::Time now = cluster::Presence::now();
  std::vector<std::vector<std::string>> machines{
      {"machine", "process", "state", "stages at", "door", "memory", "cores", "reads", "runs", "waits", "models"}};
  std::vector<std::vector<std::string>> stages{{"owner", "machine", "model", "layers", "epoch", "steps"}};
  for (const Members::Seen& seen : all) {
    const Member& m = seen.member;
    machines.push_back({m.name, m.process, state_of(seen, now), shown(m.stages_at), shown(m.door),
                        human_memory(m.memory_bytes), std::to_string(m.cores), rate(m.bytes_per_second),
                        std::to_string(m.running), std::to_string(m.queued), std::to_string(m.models.size())});
    for (const MemberStage& s : m.stages)
      stages.push_back({s.owner, m.name, s.model.substr(0, 12), fmt::format("{}-{}", s.first, s.end),
                        fmt::format("{}.{}", s.epoch >> 32, s.epoch & UINT32_MAX), std::to_string(s.steps)});
  }
  std::vector<std::string> out{connected ? "" : "The broker is not reachable; this is what was heard last.\n",
                               table(machines)};
  if (stages.size() > 1) out.push_back("\n" + table(stages));
  return out;
}

}  // namespace

Result<void> cluster_top(const ClusterTopOptions& options) {
  auto tls = TRY(cluster::open_site(site_folder()));
  const auto presence = TRY(join_bus(std::move(tls), nullptr));
  if (!presence)
    return fail(Code::kNotFound,
                "the site has no broker; make its configuration with `hearth cluster init --broker HOST:PORT`");
  TRY(presence->wait(kBrokerPatience));
  if (options.json) {
    fmt::print("{}\n", boost::json::serialize(site_state(*presence)));
    return {};
  }
  const bool screen = !options.once && ::isatty(STDOUT_FILENO) == 1;
  const InterruptFlag interrupt;
  do {
    if (screen) fmt::print("\x1b[H\x1b[2J");
    for (const std::string& line : lines(presence->everybody(), presence->connected())) fmt::print("{}", line);
    std::fflush(stdout);
    for (int i = 0; screen && i < 10 && !interrupt.raised(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
  } while (screen && !interrupt.raised());
  return {};
}

}  // namespace hearth::cli
