#include "cli/site_presence.h"

#include <algorithm>
#include <boost/json/array.hpp>

#include "base/json.h"
#include "base/system_file.h"
#include "base/system_memory.h"
#include "base/topology.h"
#include "cli/chain_options.h"
#include "cluster/broker.h"
#include "power/sensors.h"

namespace hearth::cli {

std::function<cluster::Member()> describe_machine(const std::string& process) {
  auto sensors = std::make_shared<power::Sensors>();
  const int cores = fast_cores().count;
  return [process, cores, sensors] {
    cluster::Member member;
    member.process = process, member.cores = cores;
    const auto kib = number_in(field("/proc/meminfo", "MemAvailable"));
    member.memory_bytes = kib.value_or(0) << 10;
    if (const auto limit = memory_group_limit()) member.memory_bytes = std::min(member.memory_bytes, *limit);
    const power::Sample sample = sensors->read();
    member.battery = sample.on_battery;
    // As near as the kernel itself would begin to slow down.
    member.hot =
        sample.temperature_c.there() && sample.trip_c.there() && sample.temperature_c.value >= sample.trip_c.value;
    return member;
  };
}

Result<std::unique_ptr<cluster::Presence>> join_bus(std::shared_ptr<SiteTls> tls,
                                                    std::function<cluster::Member()> describe) {
  const auto brokers = TRY(cluster::site_brokers(site_folder()));
  if (brokers.empty()) return nullptr;
  return cluster::Presence::start({.site = site_folder(), .tls = std::move(tls), .describe = std::move(describe)});
}

boost::json::object site_state(const cluster::Presence& presence) {
  boost::json::array machines;
  const cluster::Members::Time now = cluster::Presence::now();
  for (const cluster::Members::Seen& seen : presence.everybody()) {
    auto member = parse_json(cluster::to_json(seen.member));
    if (!member) continue;
    boost::json::object& shown = member->as_object();
    shown["there"] = cluster::Members::there(seen, now);
    shown["silent_seconds"] = nullptr;  // told of, not heard
    if (seen.confirmed) shown["silent_seconds"] = (now - seen.heard).count() / 1000;
    machines.push_back(std::move(*member));
  }
  return {{"broker", presence.connected()}, {"machines", std::move(machines)}};
}

std::string reachable_address(const ListenAddress& listen, uint16_t port, const cluster::Presence* presence) {
  const bool everywhere = listen.host.empty() || listen.host == "0.0.0.0" || listen.host == "::" || listen.host == "*";
  std::string host = everywhere && presence ? presence->bus()->local_address() : listen.host;
  if (everywhere && host.empty()) return "";
  if (host.contains(':')) host = "[" + host + "]";
  return fmt::format("{}:{}", host, port);
}

}  // namespace hearth::cli
