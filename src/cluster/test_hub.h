// A site and a hub for tests: two brokers, the site's linked to the hub's as a leaf.
#pragma once

#include "cluster/test_site.h"

namespace hearth::cluster {

class LinkedSites : public Site {
 protected:
  // The site of the base class is written anew with a hub, which has the same authority.
  LinkedSites() {
    hub_ = std::make_unique<test::Broker>([&](int port) {
      leaf_port_ = test::free_port();
      const auto address = [](int at) { return parse_listen_address(fmt::format("127.0.0.1:{}", at)).value(); };
      folder_.write("hub.conf",
                    hub_configuration(path("box"), path("hub-streams"), address(port), address(leaf_port_)).value());
      return path("hub.conf").string();
    });
    broker_->kill();
    const BrokerOptions options{.address = parse_listen_address(fmt::format("127.0.0.1:{}", broker_->port())).value(),
                                .domain = "home",
                                .hub = fmt::format("127.0.0.1:{}", leaf_port_)};
    EXPECT_TRUE(write_broker(path("box"), options));
    broker_->start();
    EXPECT_TRUE(test::soon([&] { return broker_->log().find("Leafnode connection created") != std::string::npos; }))
        << broker_->log() << hub_->log();
  }
  [[nodiscard]] BusOptions hub_options(const std::string& machine) const {
    BusOptions of = options(machine);
    of.brokers = {fmt::format("127.0.0.1:{}", hub_->port())};
    return of;
  }

  int leaf_port_ = 0;
  std::unique_ptr<test::Broker> hub_;
};

}  // namespace hearth::cluster
