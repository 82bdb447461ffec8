// Connections through the broker: whatever goes in comes out, and what is lost on the way ends them.
#include "net/relay.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <thread>

#include "cluster/presence.h"
#include "cluster/test_site.h"
#include "net/peer_link.h"

namespace hearth::cluster {
namespace {

using std::chrono::milliseconds;
using test::soon;

constexpr milliseconds kPatience{20'000};

// Two ends and a wire that may lose, change or stop pieces.
class Relayed : public testing::Test {
 protected:
  Relayed()
      : box_({"box", "a.b"}, [this](auto subject, auto data) { return carry(cellar_, subject, data); }),
        cellar_({"cel.lar", "node-1"}, [this](auto subject, auto data) { return carry(box_, subject, data); }) {
    cellar_.set_accept([this](Descriptor accepted) { accepted_.set_value(std::move(accepted)); });
  }
  Result<void> carry(Relay& to, std::string_view subject, std::string_view data) {
    const auto piece = parse_relay_piece(data);
    EXPECT_TRUE(piece) << "of " << data.size();
    if (piece && piece->kind == RelayPiece::Kind::kBytes && lose_) return {};
    largest_ = std::max(largest_.load(), data.size());
    if (piece && &to == &cellar_ && piece->kind == RelayPiece::Kind::kBytes)
      ahead_ = std::max(ahead_.load(), piece->offset + piece->bytes.size() - taken_);
    if (piece && &to == &box_ && piece->kind == RelayPiece::Kind::kTaken) taken_ = piece->offset;
    to.hear(subject, data);
    return {};
  }
  static void write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      pollfd waited{.fd = fd, .events = POLLOUT, .revents = 0};
      ::poll(&waited, 1, -1);
      const ssize_t wrote = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (wrote < 0 && errno != EAGAIN) return;
      bytes.remove_prefix(static_cast<size_t>(std::max<ssize_t>(wrote, 0)));
    }
  }
  // Until so many came, or the connection ended.
  static std::string read_all(int fd, size_t n) {
    std::string all;
    while (all.size() < n) {
      pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
      ::poll(&waited, 1, -1);
      std::string some(1 << 16, '\0');
      const ssize_t got = ::recv(fd, some.data(), some.size(), 0);
      if (got == 0 || (got < 0 && errno != EAGAIN)) break;
      all.append(some, 0, static_cast<size_t>(std::max<ssize_t>(got, 0)));
    }
    return all;
  }
  static std::string bytes(size_t n, char first) {
    std::string all(n, '\0');
    for (size_t i = 0; i < n; ++i) all[i] = static_cast<char>(first + static_cast<char>(i * 31 % 101));
    return all;
  }

  std::promise<Descriptor> accepted_;
  std::atomic<bool> lose_{false};
  std::atomic<size_t> largest_{0}, ahead_{0}, taken_{0};  // bytes of a piece; to cellar: on the way, and passed on
  Relay box_, cellar_;
};

TEST_F(Relayed, BytesGoBothWaysAtOnceInPieces) {
  const Descriptor here = box_.dial({"cel.lar", "node-1"}, kPatience).value();
  const Descriptor there = accepted_.get_future().get();
  const std::string out = bytes(5 << 20, 'a'), back = bytes(3 << 20, 'b');
  const std::jthread writes([&] { write_all(here.get(), out); }), answers([&] { write_all(there.get(), back); });
  auto came = std::async(std::launch::async, [&] { return read_all(there.get(), out.size()); });
  EXPECT_TRUE(read_all(here.get(), back.size()) == back);
  EXPECT_TRUE(came.get() == out);
  EXPECT_LE(largest_, kRelayPieceBytes);
  EXPECT_LE(ahead_, kRelayWindowBytes);
}

TEST_F(Relayed, AnEndComesAfterTheBytesBeforeIt) {
  std::string out = bytes(900'000, 'a');
  Descriptor there;
  {
    const Descriptor here = box_.dial({"cel.lar", "node-1"}, kPatience).value();
    there = accepted_.get_future().get();
    write_all(here.get(), out);
  }
  EXPECT_TRUE(read_all(there.get(), out.size() + 1) == out);
}

TEST_F(Relayed, ALostPieceEndsTheConnection) {
  const Descriptor here = box_.dial({"cel.lar", "node-1"}, kPatience).value();
  const Descriptor there = accepted_.get_future().get();
  write_all(here.get(), "one");
  EXPECT_EQ(read_all(there.get(), 3), "one");
  lose_ = true;
  write_all(here.get(), "two");
  pollfd waited{.fd = there.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&waited, 1, 50), 0);
  lose_ = false;
  write_all(here.get(), "three");
  EXPECT_EQ(read_all(there.get(), 1), "");
  EXPECT_EQ(read_all(here.get(), 1), "");
}

TEST_F(Relayed, WhoIsNotThereOrTakesNobodyIsAnError) {
  cellar_.set_accept(nullptr);
  const auto refused = box_.dial({"cel.lar", "node-1"}, milliseconds(20));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().message.contains("cel.lar")) << refused.error().message;
}

TEST_F(Relayed, StrangersPiecesChangeNothing) {
  const Descriptor here = box_.dial({"cel.lar", "node-1"}, kPatience).value();
  const Descriptor there = accepted_.get_future().get();
  for (const std::string& data :
       {std::string(), std::string(24, '\1'), std::string(25, '\4'), std::string(300'000, '\1'),
        to_bytes(RelayPiece{.kind = RelayPiece::Kind::kBytes, .bytes = "x"}),
        to_bytes(RelayPiece{.kind = RelayPiece::Kind::kEnd})})
    for (const char* subject : {"hearth.relay.cel=lar.node-1.box.a=b", "hearth.relay", "hearth.relay.x", "x"})
      box_.hear(subject, data);
  write_all(there.get(), "still");
  EXPECT_EQ(read_all(here.get(), 5), "still");
}

class RelayOfSite : public Site {};

TEST_F(RelayOfSite, AMachineThatCannotBeReachedIsByTheBroker) {
  const auto present = [&](const std::string& machine, const std::shared_ptr<SiteTls>& tls, const std::string& at) {
    EXPECT_TRUE(write_site_brokers(path(machine), {fmt::format("127.0.0.1:{}", broker_->port())}));
    return Presence::start({.site = path(machine),
                            .tls = tls,
                            .describe =
                                [=] {
                                  Member member;
                                  member.process = "node-" + machine, member.stages_at = at;
                                  return member;
                                }})
        .value();
  };
  const auto box_tls = open_site(path("box")).value(), cellar_tls = open_site(path("cellar")).value();
  const std::string nowhere = "127.0.0.1:1";
  const auto box = present("box", box_tls, ""), cellar = present("cellar", cellar_tls, nowhere);
  std::promise<std::unique_ptr<PeerLink>> accepted;
  cellar->relay().set_accept([&](Descriptor fd) {
    std::thread([&, fd = std::move(fd)]() mutable {
      accepted.set_value(PeerListener::shake_hands(*cellar_tls, std::move(fd), kPatience).value());
    }).detach();
  });
  ASSERT_TRUE(soon([&] { return box->members().size() == 2; })) << broker_->log();
  const auto here = PeerLink::dial(*box_tls, parse_listen_address(nowhere).value(), kPatience);
  ASSERT_TRUE(here) << here.error().message;
  const auto there = accepted.get_future().get();
  EXPECT_EQ((*here)->peer(), "cellar");
  EXPECT_EQ(there->peer(), "box");
  const std::vector<std::byte> sent(100'000, std::byte{7});
  ASSERT_TRUE((*here)->send_all(sent, kPatience));
  std::vector<std::byte> came;
  while (came.size() < sent.size()) {
    std::vector<std::byte> some(1 << 16);
    const auto got = there->receive(some);
    ASSERT_TRUE(got) << got.error().message;
    came.insert(came.end(), some.begin(), some.begin() + static_cast<ptrdiff_t>(*got));
    if (*got == 0) there->wait(kPatience);
  }
  EXPECT_EQ(came, sent);
  EXPECT_FALSE(PeerLink::dial(*box_tls, parse_listen_address("127.0.0.1:2").value(), kPatience)) << "nobody's";
}

}  // namespace
}  // namespace hearth::cluster
