// The configuration of a site's broker, a nats-server that users start themselves. It lies in the site's folder:
//
//   broker/nats.conf     who may connect (TLS 1.3, certificates of the authority), where streams lie, the link to a hub
//   broker/users.conf    what each machine may say and hear: written anew whenever a machine joins or is revoked
//   broker/*.pem, *.key  the broker's identity, and that of the one program that may talk to the cloud
//   brokers              "HOST:PORT", one a line: where machines find a broker; those that join get it
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"

namespace hearth::cluster {

struct BrokerOptions {
  ListenAddress address;  // as machines of the site reach it
  std::string domain;     // of its streams: names the site at a hub; letters, digits, '-'
  std::string hub;        // HOST:PORT of the hub's leaf listener; empty: this site is alone
};

// Where the authority is. Its identities are made with the first configuration; later calls write only the configuration.
Result<void> write_broker(const std::filesystem::path& folder, const BrokerOptions& options);
// The configuration of a hub for sites of this authority: it takes leaf links and keeps queues of its own.
Result<std::string> hub_configuration(const std::filesystem::path& folder, const std::filesystem::path& streams,
                                      const ListenAddress& clients, const ListenAddress& leaves);
// From the machines that have certificates; a running broker is told (SIGHUP to its pid file). Nothing if there is no configuration.
Result<void> write_broker_users(const std::filesystem::path& folder);

// Where machines of the site find brokers; empty if nobody said.
Result<std::vector<std::string>> site_brokers(const std::filesystem::path& folder);
Result<void> write_site_brokers(const std::filesystem::path& folder, const std::vector<std::string>& brokers);

}  // namespace hearth::cluster
