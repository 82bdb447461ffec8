// The site's bus over a real broker, with the configuration that `hearth cluster init` writes.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "cluster/test_site.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::soon;

constexpr milliseconds kPatience = kSitePatience;
constexpr Bucket kNodes{"hearth_nodes", seconds(30)}, kLeases{"hearth_leases", seconds(30)};

// Counts what is heard of a subject.
class Ear {
 public:
  Ear(ControlBus& bus, const std::string& subject) {
    EXPECT_TRUE(bus.subscribe(subject, [this](std::string_view, std::string_view data) {
      const std::scoped_lock lock(mutex_);
      heard_.emplace_back(data);
    }));
    EXPECT_TRUE(bus.flush(kPatience));
  }
  [[nodiscard]] std::vector<std::string> heard() const {
    const std::scoped_lock lock(mutex_);
    return heard_;
  }
  [[nodiscard]] bool hears(const std::string& text) const {
    const auto all = heard();
    return std::find(all.begin(), all.end(), text) != all.end();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> heard_;
};

TEST_F(Site, MachinesHearEachOtherAndShareValues) {
  const auto box = connect(options("box")), cellar = connect(options("cellar"));
  const Ear ear(*box, "hearth.beat.>");
  EXPECT_TRUE(cellar->publish("hearth.beat.cellar", "I am"));
  EXPECT_TRUE(soon([&] { return ear.hears("I am"); }));
  const auto put = cellar->put(kNodes, "cellar.node", "8 GiB");
  ASSERT_TRUE(put) << put.error().message << broker_->log();
  ASSERT_TRUE(box->put(kNodes, "box.node", "4 GiB"));
  const auto all = box->all(kNodes);
  ASSERT_TRUE(all) << all.error().message << broker_->log();
  EXPECT_EQ(all->size(), 2u);
  EXPECT_EQ(box->get(kNodes, "cellar.node").value()->value, "8 GiB");
  EXPECT_FALSE(box->get(kNodes, "attic.node").value());
}

TEST_F(Site, OnlyTheFirstWritesARevision) {
  const auto box = connect(options("box")), cellar = connect(options("cellar"));
  const auto first = box->write_if(kLeases, "chain.a", "box", 0);
  ASSERT_TRUE(first && *first) << broker_->log();
  EXPECT_FALSE(cellar->write_if(kLeases, "chain.a", "cellar", 0).value());
  const auto second = cellar->write_if(kLeases, "chain.a", "cellar", **first);
  ASSERT_TRUE(second && *second);
  EXPECT_FALSE(box->write_if(kLeases, "chain.a", "box", **first).value());
  EXPECT_EQ(box->get(kLeases, "chain.a").value()->value, "cellar");
}

TEST_F(Site, TheBrokerLetsNobodySayWhatIsNotHis) {
  const auto box = connect(options("box")), cellar = connect(options("cellar"));
  BusOptions egress = options("box");
  egress.certificate = path("box") / "broker/egress.pem";
  egress.key = path("box") / "broker/egress.key";
  egress.name = kEgressName;
  const auto cloud = connect(egress), cloud_again = connect(egress);
  const Ear at_cloud(*cloud, "cloud.>"), at_box(*box, "hearth.>");
  // A private account has no way to the cloud; another machine's heartbeat is not to be forged.
  EXPECT_TRUE(cellar->publish("cloud.ask", "my diary"));
  EXPECT_TRUE(cellar->publish("hearth.beat.box", "forged"));
  EXPECT_TRUE(cellar->publish("hearth.beat.cellar", "true"));
  EXPECT_TRUE(cloud_again->publish("cloud.ask", "asked"));
  EXPECT_TRUE(soon([&] { return at_cloud.hears("asked") && at_box.hears("true"); }));
  EXPECT_TRUE(cellar->flush(kPatience));
  EXPECT_TRUE(box->flush(kPatience));
  EXPECT_EQ(at_cloud.heard(), std::vector<std::string>{"asked"});
  EXPECT_EQ(at_box.heard(), std::vector<std::string>{"true"});
  EXPECT_NE(broker_->log().find("Publish Violation"), std::string::npos) << "refused by the broker, not only by us";
  EXPECT_FALSE(cellar->put(kNodes, "box.node", "forged"));
}

TEST_F(Site, WhoHasNoCertificateIsNotLetIn) {
  ASSERT_TRUE(make_site(path("strangers"), "box"));
  BusOptions stranger = options("strangers");
  stranger.authority = path("box") / "authority.pem";
  stranger.name = "box";
  const auto bus = ControlBus::open(stranger);
  EXPECT_TRUE(soon([&] { return broker_->log().find("TLS handshake error") != std::string::npos; }));
  EXPECT_TRUE(!bus || !(*bus)->connected());
  // And who is no broker is not believed, though it has a certificate of the site.
  const auto box = connect(options("box"));
}

TEST_F(Site, ARevokedMachineIsPutOutAndStaysOut) {
  const auto cellar = connect(options("cellar"));
  ASSERT_TRUE(revoke_machine(path("box"), "cellar"));
  EXPECT_TRUE(soon([&] { return !cellar->connected(); })) << broker_->log();
  const auto again = ControlBus::open(options("cellar"));
  EXPECT_TRUE(soon([&] { return broker_->log().find("authentication error") != std::string::npos; }));
  EXPECT_TRUE(!again || !(*again)->connected());
  EXPECT_FALSE(revoke_machine(path("box"), "attic")) << "nobody has that name";
  add_machine("cellar");  // the name is free again
  EXPECT_TRUE(connect(options("cellar"))->connected());
}

TEST_F(Site, ABrokerThatLostEverythingIsFilledAnew) {
  const auto box = connect(options("box"));
  const Ear ear(*box, "hearth.beat.>");
  ASSERT_TRUE(box->put(kNodes, "box.node", "before"));
  broker_->kill();
  EXPECT_TRUE(soon([&] { return !box->connected(); }));
  EXPECT_FALSE(box->put(kNodes, "box.node", "meanwhile"));
  EXPECT_FALSE(box->publish("hearth.beat.box", "meanwhile"));
  std::filesystem::remove_all(path("box") / "broker/streams");
  broker_->start();
  ASSERT_TRUE(box->wait(kPatience));
  EXPECT_TRUE(soon([&] { return box->put(kNodes, "box.node", "after").has_value(); }));
  EXPECT_EQ(box->all(kNodes).value().size(), 1u);
  EXPECT_TRUE(soon([&] { return box->publish("hearth.beat.box", "again") && ear.hears("again"); }))
      << "subscriptions come back";
}

}  // namespace
}  // namespace hearth::cluster
