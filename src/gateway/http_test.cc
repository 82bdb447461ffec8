// Webhooks: one gateway posts, the other is posted to.
#include <csignal>
#include <cstdlib>

#include "gateway/sample.h"
#include "support/adapter_harness.h"
#include "support/raw_client.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;

constexpr std::string_view kSignals = R"(
[[signal]]
name = "tank/level"
unit = "%"
min = 0
max = 100
[[signal]]
name = "valve"
type = "bool"
[signal.write]
[[adapter]]
type = "http"
)";
enum : SignalId { kLevel, kValve };

std::string receiving(int port, const std::string& more = "") {
  return std::string(kSignals) + "listen = \"127.0.0.1:" + std::to_string(port) +
         "\"\nsignals = [\"*\"]\nrequests = [\"valve\"]\n" + more;
}

std::string answer(int port, const std::string& path, const std::string& body, const std::string& headers = "") {
  test::RawClient client(static_cast<uint16_t>(port));
  client.send("POST " + path + " HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + headers +
              "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  return client.read_until("");
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST(Http, ValuesAndWishesArePostedToUsAndJudged) {
  const int port = test::free_port();
  const AdapterHarness gateway(receiving(port));
  EXPECT_TRUE(has(answer(port, "/signals", R"({"signal":"tank/level","value":40.5,"time":1700000000000})"),
                  R"({"taken":1,"refused":0})"));
  EXPECT_EQ(gateway.samples(kLevel).at(0).value, Value(40.5));
  EXPECT_EQ(gateway.samples(kLevel).at(0).time_ms, 1'700'000'000'000);
  EXPECT_TRUE(has(
      answer(
          port, "/signals",
          R"([{"signal":"tank/level","value":"unlock"},{"signal":"valve","value":true},{"signal":"nobody","value":1}])"),
      R"({"taken":1,"refused":2})"));
  EXPECT_EQ(gateway.samples(kLevel).at(1).quality, Quality::kBad);
  EXPECT_EQ(gateway.samples(kValve).at(0).value, Value(true));
  EXPECT_TRUE(
      has(answer(port, "/signals", R"({"signal":"tank/level","value":1,"time":9700000000000})"), R"("refused":1)"));
  EXPECT_TRUE(gateway.requests().empty());
  EXPECT_TRUE(has(answer(port, "/requests", R"([{"signal":"valve","value":true},{"signal":"tank/level","value":1}])"),
                  R"({"taken":1,"refused":1})"));
  ASSERT_EQ(gateway.requests().size(), 1U);
  EXPECT_EQ(gateway.requests()[0].second, "http 127.0.0.1");
}

TEST(Http, WhatIsNoneOfThisIsRefused) {
  const int port = test::free_port();
  const AdapterHarness gateway(receiving(port));
  EXPECT_TRUE(has(answer(port, "/", "{}"), "404"));
  EXPECT_TRUE(has(answer(port, "/signals", "no json"), "400"));
  EXPECT_TRUE(has(answer(port, "/signals", R"({"signal":5,"value":1})"), "400"));
  EXPECT_TRUE(has(answer(port, "/signals", std::string(100'000, '[')), "400"));
  EXPECT_TRUE(
      has(answer(port, "/requests", R"({"signal":"valve","value":true})", "origin: http://evil.example\r\n"), "403"));
  EXPECT_TRUE(gateway.requests().empty());
  EXPECT_TRUE(gateway.samples(kLevel).empty());
}

TEST(Http, OthersThanThisMachineNeedTheToken) {
  TestFolder folder;
  folder.write("token", "0123456789abcdef\n");
  const std::string token_file = "token_file = \"" + (folder.path() / "token").string() + "\"\n";
  const int port = test::free_port();
  const AdapterHarness gateway(receiving(port, token_file));
  const std::string body = R"({"signal":"tank/level","value":1})";
  EXPECT_TRUE(has(answer(port, "/signals", body), "401"));
  EXPECT_TRUE(has(answer(port, "/signals", body, "authorization: Bearer 0123456789abcdeX\r\n"), "401"));
  EXPECT_TRUE(has(answer(port, "/signals", body, "authorization: Bearer 0123456789abcdef\r\n"), "200"));
  std::string open = receiving(port);
  open.replace(open.find("127.0.0.1"), 9, "0.0.0.0");
  EXPECT_TRUE(has(Profile::parse(open, "p.toml").error().message, "give token_file"));
}

TEST(Http, SamplesAndCommandsArePostedAndAReceiverThatIsAwayIsAnError) {
  std::signal(SIGPIPE, SIG_IGN);
  const int port = test::free_port();
  const std::string to = "http://127.0.0.1:" + std::to_string(port);
  const AdapterHarness sender(std::string(kSignals) + "command = [{ signal = \"valve\", url = \"" + to +
                              "/signals\" }]\n[adapter.out]\nurl = \"" + to +
                              "/signals\"\nsignals = [\"tank/level\"]\n");
  EXPECT_EQ(sender.adapter().publish({kLevel, 40.5, 1'700'000'000'000, Quality::kGood}).error().code, Code::kIo);
  const AdapterHarness receiver(receiving(port));
  ASSERT_TRUE(sender.adapter().publish({kLevel, 40.5, 1'700'000'000'000, Quality::kGood}).has_value());
  EXPECT_EQ(receiver.samples(kLevel).at(0).value, Value(40.5));
  EXPECT_EQ(sender.adapter().write({kValve, true}).error().code,
            Code::kIo);  // the body names no signal: the receiver says 400
  EXPECT_EQ(sender.adapter().write({kLevel, 1.0}).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace hearth::gateway
