// A site with a real broker for tests: the machine "box", where the authority is, and others.
#pragma once

#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "cluster/authority.h"
#include "cluster/broker.h"
#include "cluster/control_bus.h"
#include "cluster/site.h"
#include "support/broker.h"
#include "support/test_folder.h"

namespace hearth::cluster {

inline constexpr std::chrono::milliseconds kSitePatience{20'000};

class Site : public testing::Test {
 protected:
  Site() {
    EXPECT_TRUE(make_site(path("box"), "box"));
    broker_ = std::make_unique<test::Broker>([&](int port) {
      const BrokerOptions options{
          .address = parse_listen_address(fmt::format("127.0.0.1:{}", port)).value(), .domain = "home", .hub = ""};
      const auto written = write_broker(path("box"), options);
      EXPECT_TRUE(written) << written.error().message;
      return (path("box") / "broker/nats.conf").string();
    });
    add_machine("cellar");
  }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }

  // A machine as it is after it joined.
  void add_machine(const std::string& name) {
    const CertificateRequest request = make_request(name).value();
    const auto certificate = issue_certificate(path("box"), request.request_pem);
    ASSERT_TRUE(certificate) << certificate.error().message;
    folder_.write(name + "/machine.pem", *certificate);
    folder_.write(name + "/machine.key", request.key_pem);
    folder_.write(name + "/authority.pem", read_file(path("box") / "authority.pem", 1 << 16).value());
  }
  [[nodiscard]] BusOptions options(const std::string& machine) const {
    return {.brokers = {fmt::format("127.0.0.1:{}", broker_->port())},
            .authority = path(machine) / "authority.pem",
            .certificate = path(machine) / "machine.pem",
            .key = path(machine) / "machine.key",
            .name = machine};
  }
  [[nodiscard]] std::unique_ptr<ControlBus> connect(const BusOptions& options) const {
    auto bus = ControlBus::open(options).value();
    const auto there = bus->wait(kSitePatience);
    EXPECT_TRUE(there) << there.error().message << "\n" << broker_->log();
    return bus;
  }

  TestFolder folder_;
  std::unique_ptr<test::Broker> broker_;
};

}  // namespace hearth::cluster
