// Machines in their site: who is there, who owns a chain, who is put out, with a real broker that dies and comes back.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "cluster/frame_link.h"
#include "cluster/lease.h"
#include "cluster/node.h"
#include "cluster/presence.h"
#include "cluster/test_site.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;
using test::soon;

class ControlPlane : public Site {
 protected:
  [[nodiscard]] std::shared_ptr<SiteTls> tls(const std::string& machine) const {
    return open_site(path(machine)).value();
  }
  // A machine's presence; `process` empty: it only looks on.
  std::unique_ptr<Presence> present(const std::string& machine, const std::string& process,
                                    std::shared_ptr<SiteTls> own_tls = nullptr) {
    EXPECT_TRUE(write_site_brokers(path(machine), {fmt::format("127.0.0.1:{}", broker_->port())}));
    PresenceOptions options{.site = path(machine), .tls = own_tls ? own_tls : tls(machine), .describe = {}};
    if (!process.empty())
      options.describe = [process] {
        Member member;
        member.process = process, member.cores = 2;
        return member;
      };
    auto presence = Presence::start(std::move(options));
    EXPECT_TRUE(presence) << presence.error().message;
    return std::move(*presence);
  }
  static std::string seen_by(const Presence& presence) {
    std::string text;
    for (const Member& member : presence.members()) text += member.key() + " ";
    return text;
  }
  Result<std::unique_ptr<Lease>> lease(Presence& presence, const std::filesystem::path& folder) {
    return Lease::take(presence, folder, "home", interrupted_);
  }
  std::atomic<bool> interrupted_{false};
};

TEST_F(ControlPlane, MachinesFindEachOtherAndSeeWhoGoes) {
  const auto box = present("box", "serve-1");
  auto cellar = present("cellar", "node-1");
  EXPECT_TRUE(soon([&] { return seen_by(*box) == "box.serve-1 cellar.node-1 "; })) << seen_by(*box) << broker_->log();
  EXPECT_TRUE(soon([&] { return seen_by(*cellar) == seen_by(*box); }));
  const auto watcher = present("cellar", "");
  EXPECT_TRUE(watcher->wait(kSitePatience));
  EXPECT_TRUE(soon([&] { return seen_by(*watcher) == seen_by(*box); }));
  cellar.reset();
  EXPECT_TRUE(soon([&] { return seen_by(*box) == "box.serve-1 "; })) << "it said that it goes";
}

TEST_F(ControlPlane, TheListIsMadeAnewAfterABrokerLostEverything) {
  const auto box = present("box", "serve-1"), cellar = present("cellar", "node-1");
  ASSERT_TRUE(soon([&] { return seen_by(*box).size() > 15 && seen_by(*cellar) == seen_by(*box); }));
  broker_->kill();
  EXPECT_TRUE(soon([&] { return seen_by(*box).empty(); })) << "nobody is heard, not even itself";
  std::filesystem::remove_all(path("box") / "broker/streams");
  broker_->start();
  EXPECT_TRUE(soon([&] { return seen_by(*box) == "box.serve-1 cellar.node-1 "; })) << broker_->log();
  EXPECT_TRUE(soon([&] {
    const auto kept = box->bus()->all(kNodesBucket);
    return kept && kept->size() == 2;
  })) << "the broker has it too, again";
}

TEST_F(ControlPlane, AFrozenBrokerIsLikeALostOne) {
  const auto box = present("box", "serve-1");
  ASSERT_TRUE(soon([&] { return !seen_by(*box).empty(); }));
  broker_->signal(SIGSTOP);
  EXPECT_TRUE(soon([&] { return !box->connected(); })) << "pings tell";
  broker_->signal(SIGCONT);
  EXPECT_TRUE(soon([&] { return !seen_by(*box).empty(); }));
}

TEST_F(ControlPlane, AChainHasOneOwnerAndTermsOnlyGrow) {
  const auto box = present("box", ""), cellar = present("cellar", "");
  ASSERT_TRUE(box->wait(kSitePatience) && cellar->wait(kSitePatience));
  auto first = lease(*box, path("box-leases"));
  ASSERT_TRUE(first) << first.error().message << broker_->log();
  EXPECT_EQ((*first)->term(), 1u);
  Result<std::unique_ptr<Lease>> second = fail(Code::kCancelled, "not yet");
  std::jthread waits([&] { second = lease(*cellar, path("cellar-leases")); });
  // The broker is killed and loses everything: the owner stays the owner.
  broker_->kill();
  std::filesystem::remove_all(path("box") / "broker/streams");
  broker_->start();
  ASSERT_TRUE(soon([&] {
    const auto kept = box->bus()->get(kLeasesBucket, "chain.home");
    return kept && *kept && (*kept)->value == "1 box";
  }));
  EXPECT_FALSE((*first)->lost());
  interrupted_ = true;
  waits.join();
  EXPECT_FALSE(second) << "there were two owners";
  interrupted_ = false;
  (*first).reset();  // given back
  second = lease(*cellar, path("cellar-leases"));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ((*second)->term(), 2u);
  (*second).reset();
  // The broker forgets again, and so does nobody else: an owner of before begins above its own term.
  broker_->kill();
  std::filesystem::remove_all(path("box") / "broker/streams");
  broker_->start();
  // It may not have noticed yet that the connection is lost.
  ASSERT_TRUE(soon([&] {
    second = lease(*cellar, path("cellar-leases"));
    return second.has_value();
  })) << broker_->log();
  EXPECT_EQ((*second)->term(), 3u);
}

// What links refuse needs no broker.
class Fencing : public testing::Test {
 protected:
  Fencing() {
    EXPECT_TRUE(make_site(path("box"), "box"));
    tls_ = open_site(path("box")).value();
    start_node();
  }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
  void start_node() {
    NodeOptions options;
    options.listen = parse_listen_address("127.0.0.1:0").value();
    options.tls = tls_;
    options.backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
    options.open_model = [](const Assign&, const PackSources&) -> Result<Checkpoint> {
      return fail(Code::kNotFound, "no models here");
    };
    options.terms = TermFile::open(path("terms")).value();
    node_ = Node::start(std::move(options)).value();
  }
  std::shared_ptr<SiteTls> machine(const std::string& name) {
    const CertificateRequest request = make_request(name).value();
    folder_.write(name + "/machine.pem", issue_certificate(path("box"), request.request_pem).value());
    folder_.write(name + "/machine.key", request.key_pem);
    folder_.write(name + "/authority.pem", read_file(path("box") / "authority.pem", 1 << 16).value());
    return open_site(path(name)).value();
  }
  [[nodiscard]] Result<std::unique_ptr<PeerLink>> dial(const SiteTls& tls) const {
    return PeerLink::dial(tls, parse_listen_address(fmt::format("127.0.0.1:{}", node_->port())).value(), kSitePatience);
  }
  // An owner says who it is: "" if it may go on, else what the stage says.
  [[nodiscard]] std::string owner_comes(const SiteTls& tls, uint64_t term) const {
    const auto link = dial(tls).value();
    EXPECT_TRUE(
        link->send_all(to_bytes({(term << 32) + 1, 0, Hello{LinkClass::kControl, {std::byte{7}}}}), kSitePatience));
    (void)link->send_all(to_bytes({0, 0, Ping{}}), kSitePatience);
    FrameReader reader;
    const auto frame = next_frame(*link, reader, kSitePatience);
    if (!frame) return frame.error().message;
    const auto* failure = std::get_if<Failure>(&frame->message);
    return failure ? failure->message : "";
  }

  TestFolder folder_;
  std::shared_ptr<SiteTls> tls_;
  std::unique_ptr<Node> node_;
};

TEST_F(Fencing, AStageLetsNoOldOwnerInEvenAfterItWasStartedAgain) {
  const auto cellar = machine("cellar");
  EXPECT_EQ(owner_comes(*tls_, 5), "");
  EXPECT_EQ(owner_comes(*tls_, 5), "") << "the same owner may connect again";
  EXPECT_EQ(owner_comes(*cellar, 6), "");
  EXPECT_NE(owner_comes(*tls_, 5).find("cellar"), std::string::npos);
  EXPECT_NE(owner_comes(*tls_, 6), "") << "one term has one owner";
  EXPECT_EQ(node_->stats().stale_owners, 2u);
  node_.reset();
  start_node();
  EXPECT_NE(owner_comes(*tls_, 5), "");
  EXPECT_EQ(owner_comes(*tls_, 7), "");
  EXPECT_EQ(owner_comes(*cellar, 0), "") << "who uses the stage under no name disturbs nobody";
}

TEST_F(Fencing, ARevokedMachineIsRefusedAndItsConnectionsEnd) {
  const auto cellar = machine("cellar"), attic = machine("attic");
  const auto open_before = dial(*cellar).value();
  ASSERT_TRUE(open_before->send_all(to_bytes({0, 0, Hello{LinkClass::kControl, {std::byte{1}}}}), kSitePatience));
  EXPECT_EQ(owner_comes(*attic, 0), "");
  ASSERT_TRUE(revoke_machine(path("box"), "cellar"));
  const std::string list = read_revoked(path("box")).value();
  EXPECT_TRUE(take_revoked(path("box"), *tls_->revoked(), list).value());
  EXPECT_FALSE(take_revoked(path("box"), *tls_->revoked(), list).value()) << "it is known";
  (void)open_before->send_all(to_bytes({0, 0, Ping{}}), kSitePatience);
  FrameReader reader;
  while (next_frame(*open_before, reader, kSitePatience)) continue;  // its end
  const auto refused_before = node_->stats().refused;
  const auto again = dial(*cellar);
  if (again) {
    (void)(*again)->send_all(to_bytes({0, 0, Hello{LinkClass::kControl, {std::byte{1}}}}), kSitePatience);
    FrameReader late;
    EXPECT_FALSE(next_frame(**again, late, kSitePatience));
  }
  EXPECT_TRUE(soon([&] { return node_->stats().refused > refused_before; })) << "refused, and counted";
  EXPECT_EQ(owner_comes(*attic, 0), "") << "the others are not touched";
  // A list that the authority did not sign, an older one, and nonsense change nothing.
  ASSERT_TRUE(make_site(path("strangers"), "cellar"));
  ASSERT_TRUE(revoke_machine(path("strangers"), "cellar"));
  EXPECT_FALSE(take_revoked(path("box"), *tls_->revoked(), read_revoked(path("strangers")).value()));
  EXPECT_FALSE(take_revoked(path("box"), *tls_->revoked(), "nonsense"));
  ASSERT_TRUE(revoke_machine(path("box"), "attic"));
  EXPECT_TRUE(take_revoked(path("box"), *tls_->revoked(), read_revoked(path("box")).value()).value());
  EXPECT_FALSE(take_revoked(path("box"), *tls_->revoked(), list).value()) << "one from before the last";
  EXPECT_TRUE(tls_->revoked()->serials().size() == 2);
}

TEST_F(ControlPlane, TheListOfRevokedMachinesReachesThoseWhoComeLater) {
  add_machine("attic");
  const auto box_tls = tls("box"), cellar_tls = tls("cellar");
  const auto box = present("box", "serve-1", box_tls);
  ASSERT_TRUE(revoke_machine(path("box"), "attic"));
  ASSERT_TRUE(box->wait(kSitePatience));
  EXPECT_TRUE(
      soon([&] { return box->bus()->publish("hearth.revoked", read_revoked(path("box")).value()).has_value(); }));
  EXPECT_TRUE(soon([&] { return box_tls->revoked()->number() == 1; }));
  const auto cellar = present("cellar", "node-1", cellar_tls);
  EXPECT_TRUE(soon([&] { return cellar_tls->revoked()->number() == 1; })) << "told by who has it";
  EXPECT_TRUE(soon([&] { return read_revoked(path("cellar")).value() == read_revoked(path("box")).value(); }))
      << "and kept on its disk, which comes after";
}

}  // namespace
}  // namespace hearth::cluster
