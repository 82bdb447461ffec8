// This process in its site, for commands that are part of one.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <string>

#include "cluster/presence.h"
#include "net/event_loop.h"

namespace hearth::cli {

// What any process of this machine can say of it: memory, cores, battery, heat. `process`: as "node-7950". Safe to call on one thread.
std::function<cluster::Member()> describe_machine(const std::string& process);
// Null where the site has no broker, or this machine no site. `describe`: null to only look on.
Result<std::unique_ptr<cluster::Presence>> join_bus(std::shared_ptr<SiteTls> tls,
                                                    std::function<cluster::Member()> describe);
// Everybody of the last minute, as JSON, and whether the broker can be reached.
boost::json::object site_state(const cluster::Presence& presence);
// HOST:PORT at which others reach what listens here on `port`. Where that is on every interface, it is this machine's address as the
// broker sees it; empty until there is a connection.
std::string reachable_address(const ListenAddress& listen, uint16_t port, const cluster::Presence* presence);

}  // namespace hearth::cli
