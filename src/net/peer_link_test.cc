// Machines of a site believe each other, and nobody else.
#include "net/peer_link.h"

#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <thread>

#include "support/raw_client.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kPatience{10'000};

void write(const std::filesystem::path& path, const std::string& text) { std::ofstream(path) << text; }

// A site with its authority and machines in a folder of its own.
class Site {
 public:
  Site() { EXPECT_TRUE(write_authority(authority(), path("authority.key"), "a site")); }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
  [[nodiscard]] std::filesystem::path authority() const { return path("authority.pem"); }
  [[nodiscard]] Result<std::string> sign(std::string_view request) const {
    return sign_request(authority(), path("authority.key"), request);
  }
  void add(const std::string& name) const {
    const auto request = make_request(name).value();
    write(path(name + ".key"), request.key_pem);
    write(path(name + ".pem"), sign(request.request_pem).value());
  }
  [[nodiscard]] std::shared_ptr<SiteTls> member(const std::string& name) const {
    return SiteTls::member(authority(), path(name + ".pem"), path(name + ".key")).value();
  }

 private:
  TestFolder folder_;
};

struct Ends {
  Result<std::unique_ptr<PeerLink>> dialled, accepted;
};

Ends connect(const SiteTls& dialling, const SiteTls& accepting) {
  const auto listener = PeerListener::listen(parse_listen_address("127.0.0.1:0").value()).value();
  auto accepted = std::async(std::launch::async, [&] {
    Descriptor fd = listener->accept(kPatience).value();
    return PeerListener::shake_hands(accepting, std::move(fd), kPatience);
  });
  const auto to = parse_listen_address(fmt::format("127.0.0.1:{}", listener->port())).value();
  auto dialled = PeerLink::dial(dialling, to, kPatience);
  return {std::move(dialled), accepted.get()};
}

// False once the connection is lost.
bool receive_all(PeerLink& link, std::span<std::byte> into) {
  while (!into.empty()) {
    const auto got = link.receive(into);
    if (!got) return false;
    if (*got == 0) link.wait(kPatience);
    into = into.subspan(*got);
  }
  return true;
}

TEST(PeerLink, MembersTalk) {
  const Site site;
  site.add("kitchen"), site.add("cellar");
  const Ends ends = connect(*site.member("kitchen"), *site.member("cellar"));
  ASSERT_TRUE(ends.dialled) << ends.dialled.error().message;
  ASSERT_TRUE(ends.accepted) << ends.accepted.error().message;
  EXPECT_EQ((*ends.dialled)->peer(), "cellar");
  EXPECT_EQ((*ends.accepted)->peer(), "kitchen");
  std::vector<std::byte> sent(20 << 20), got(sent.size());
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 31 >> 3);
  std::jthread sender([&] { EXPECT_TRUE((*ends.dialled)->send_all(sent, kPatience)); });
  EXPECT_TRUE(receive_all(**ends.accepted, got));
  EXPECT_EQ(sent, got);
}

TEST(PeerLink, WhatDoesNotGoAtOnceStaysUntilItGoes) {
  const Site site;
  site.add("kitchen"), site.add("cellar");
  const Ends ends = connect(*site.member("kitchen"), *site.member("cellar"));
  ASSERT_TRUE(ends.dialled && ends.accepted);
  const std::vector<std::byte> sent(64 << 20, std::byte{7});
  EXPECT_TRUE((*ends.dialled)->send(sent)) << "does not wait for who does not read";
  EXPECT_TRUE((*ends.dialled)->unsent());
  std::vector<std::byte> got(sent.size());
  std::jthread reader([&] { EXPECT_TRUE(receive_all(**ends.accepted, got)); });
  while ((*ends.dialled)->unsent()) {
    (*ends.dialled)->wait(kPatience);
    ASSERT_TRUE((*ends.dialled)->send({}));
  }
  reader.join();
  EXPECT_EQ(sent, got);
}

TEST(PeerLink, StrangersAreRefused) {
  const Site site, other;
  site.add("kitchen"), other.add("stranger");
  // With TLS 1.3 who dials may think for a moment that all is well; nothing it says is heard.
  const Ends from_outside = connect(*other.member("stranger"), *site.member("kitchen"));
  EXPECT_FALSE(from_outside.accepted);
  EXPECT_FALSE(from_outside.dialled) << "it does not believe the site either";
  const auto guest = SiteTls::guest(certificate_digest(site.authority()).value()).value();
  EXPECT_FALSE(connect(*guest, *site.member("kitchen")).accepted) << "without a certificate";
  const auto listener = PeerListener::listen(parse_listen_address("127.0.0.1:0").value()).value();
  test::RawClient raw(listener->port());
  EXPECT_TRUE(raw.send("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_FALSE(PeerListener::shake_hands(*site.member("kitchen"), listener->accept(kPatience).value(), kPatience));
}

TEST(PeerLink, AGuestBelievesTheAuthorityItWasToldOfOnly) {
  const Site site, other;
  site.add("kitchen"), other.add("impostor");
  const auto host = SiteTls::host(site.authority(), site.path("kitchen.pem"), site.path("kitchen.key")).value();
  const auto impostor =
      SiteTls::host(other.authority(), other.path("impostor.pem"), other.path("impostor.key")).value();
  const auto guest = SiteTls::guest(certificate_digest(site.authority()).value()).value();
  EXPECT_TRUE(connect(*guest, *host).dialled);
  EXPECT_FALSE(connect(*guest, *impostor).dialled);
  // Showing the right authority beside a certificate that it did not sign is not enough.
  const auto liar = SiteTls::host(site.authority(), other.path("impostor.pem"), other.path("impostor.key")).value();
  EXPECT_FALSE(connect(*guest, *liar).dialled);
}

TEST(PeerLink, OnlyWhoHasTheKeyIsCertified) {
  const Site site;
  auto request = make_request("kitchen").value().request_pem;
  EXPECT_TRUE(site.sign(request));
  EXPECT_FALSE(site.sign(""));
  EXPECT_FALSE(site.sign("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"));
  EXPECT_FALSE(site.sign(std::string(1 << 20, 'A')));
  const size_t middle = request.size() / 2;
  request[middle] = request[middle] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(site.sign(request)) << "changed on the way";
}

TEST(PeerLink, TheEndOfTheOtherSideIsSeen) {
  const Site site;
  site.add("kitchen"), site.add("cellar");
  Ends ends = connect(*site.member("kitchen"), *site.member("cellar"));
  ASSERT_TRUE(ends.dialled && ends.accepted);
  ends.accepted->reset();
  std::byte byte{};
  EXPECT_FALSE(receive_all(**ends.dialled, {&byte, 1}));
}

}  // namespace
}  // namespace hearth
