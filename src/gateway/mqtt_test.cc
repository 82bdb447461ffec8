// MQTT devices, with a real broker.
#include <boost/json.hpp>

#include "gateway/sample.h"
#include "net/tls.h"
#include "support/adapter_harness.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::Listener;
using test::MqttBroker;
using test::soon;

constexpr std::string_view kSignals = R"(
[[signal]]
name = "kitchen/temperature"
unit = "°C"
min = -40
max = 60
class = "A"
[[signal]]
name = "kitchen/light"
type = "bool"
[signal.write]
action = "low"
[[signal]]
name = "kitchen/mode"
type = "text"
[[adapter]]
type = "mqtt"
)";

std::string profile(const MqttBroker& broker, const std::string& more = "") {
  return std::string(kSignals) + broker.where() + more + R"(
[[adapter.in]]
signal = "kitchen/temperature"
topic = "zigbee2mqtt/kitchen"
pointer = "/temperature"
[[adapter.in]]
signal = "kitchen/light"
topic = "zigbee2mqtt/lamp"
pointer = "/state"
on = "ON"
off = "OFF"
[[adapter.in]]
signal = "kitchen/mode"
topic = "kitchen/mode"
[[adapter.command]]
signal = "kitchen/light"
topic = "zigbee2mqtt/lamp/set"
key = "state"
on = "ON"
off = "OFF"
[[adapter.request]]
signal = "kitchen/light"
topic = "wish/light"
[[adapter.available]]
topic = "zigbee2mqtt/kitchen/availability"
pointer = "/state"
signals = ["kitchen/temperature"]
[adapter.out]
topic = "plant/{signal}"
signals = ["kitchen/*"]
)";
}

constexpr SignalId kTemperature = 0, kLight = 1, kMode = 2;

class MqttVersions : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Each, MqttVersions, testing::Values("version = \"5\"\n", "version = \"3.1.1\"\n"),
                         [](const auto& each) { return each.index == 0 ? "v5" : "v311"; });

TEST_P(MqttVersions, ADevicesMessageBecomesSamplesAndAWriteItsCommand) {
  const MqttBroker broker;
  Listener device(broker);
  const AdapterHarness gateway(profile(broker, GetParam()));
  ASSERT_TRUE(gateway.connected());
  ASSERT_TRUE(soon([&] {
    device.say("zigbee2mqtt/kitchen", R"({"temperature":21.5,"humidity":40,"linkquality":90})");
    return !gateway.samples(kTemperature).empty();
  }));
  EXPECT_EQ(gateway.samples(kTemperature)[0].value, Value(21.5));
  EXPECT_EQ(gateway.samples(kTemperature)[0].quality, Quality::kGood);
  device.say("zigbee2mqtt/lamp", R"({"state":"ON"})");
  ASSERT_TRUE(soon([&] { return !gateway.samples(kLight).empty(); }));
  EXPECT_EQ(gateway.samples(kLight)[0].value, Value(true));

  ASSERT_TRUE(gateway.adapter().write({kLight, false}).has_value());
  ASSERT_TRUE(soon([&] { return device.last("zigbee2mqtt/lamp/set").has_value(); }));
  EXPECT_EQ(device.last("zigbee2mqtt/lamp/set"), R"({"state":"OFF"})");
  EXPECT_EQ(gateway.adapter().write({kTemperature, 99.0}).error().code, Code::kNotFound);

  ASSERT_TRUE(gateway.adapter().publish({kTemperature, 21.5, 1000, Quality::kGood}).has_value());
  ASSERT_TRUE(soon([&] { return device.last("plant/kitchen/temperature").has_value(); }));
  const auto said = boost::json::parse(*device.last("plant/kitchen/temperature"));
  EXPECT_EQ(said.at("value").as_double(), 21.5);
  EXPECT_EQ(said.at("time").as_int64(), 1000);
}

// What a device says is judged, never believed as it comes: nothing of this crashes, and nothing of it is good.
TEST(Mqtt, HostilePayloadsAreBadSamplesAndCounted) {
  const MqttBroker broker;
  Listener device(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(gateway.connected());
  ASSERT_TRUE(soon([&] { return device.say("kitchen/mode", "eco") && !gateway.samples(kMode).empty(); }));
  const std::vector<std::string> hostile = {R"({"temperature":"unlock"})", R"({"temperature":null})",
                                            R"({"temperature":[1]})",      R"({"temperature":true})",
                                            R"({"temperature":1e999})",    "not json",
                                            std::string(60000, '['),       std::string("\0\xff\xfe", 3)};
  for (const std::string& payload : hostile) EXPECT_TRUE(device.say("zigbee2mqtt/kitchen", payload));
  device.say("zigbee2mqtt/kitchen", R"({"temperature":500})");
  device.say("zigbee2mqtt/kitchen", R"({"temperature":20})");
  ASSERT_TRUE(soon([&] { return gateway.samples(kTemperature).size() == hostile.size() + 2; }))
      << gateway.samples(kTemperature).size();
  const auto samples = gateway.samples(kTemperature);
  for (size_t i = 0; i < hostile.size(); i++) EXPECT_EQ(samples[i].quality, Quality::kBad) << hostile[i].substr(0, 40);
  EXPECT_EQ(samples[hostile.size()].quality, Quality::kOutOfRange);
  EXPECT_EQ(samples.back().quality, Quality::kGood);
  const uint64_t refused = gateway.adapter().figures().refused;
  EXPECT_EQ(refused, hostile.size());
  device.say("kitchen/mode", "line\nbreak");
  device.say("kitchen/mode", std::string(5000, 'a'));
  ASSERT_TRUE(soon([&] { return gateway.adapter().figures().refused == refused + 2; }));
  EXPECT_EQ(gateway.samples(kMode).back().quality, Quality::kBad);
}

// A command that a broker kept from yesterday must not act at the next start.
TEST(Mqtt, ARequestIsPassedOnWithItsSourceUnlessItWasRetained) {
  const MqttBroker broker;
  Listener person(broker);
  ASSERT_TRUE(person.say("wish/light", "ON", true));
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(soon([&] { return gateway.adapter().figures().refused == 1; }));
  EXPECT_TRUE(gateway.requests().empty());
  person.say("wish/light", "off");
  ASSERT_TRUE(soon([&] { return gateway.requests().size() == 1; }));
  EXPECT_EQ(gateway.requests()[0].first.value, Value(false));
  EXPECT_EQ(gateway.requests()[0].second, "mqtt wish/light");
}

// thingsboard-gateway #1641, #2132: a connection that was lost, for however long, comes back by itself with its subscriptions.
TEST(Mqtt, Peer1641ABrokerThatWasKilledIsFoundAgainAndItsSignalsAreAwayMeanwhile) {
  MqttBroker broker;
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(gateway.connected());
  for (int outage = 1; outage <= 3; outage++) {
    broker.kill();
    ASSERT_TRUE(soon([&] { return gateway.away(kTemperature); }));
    EXPECT_EQ(gateway.adapter().publish({kTemperature, 1.0, 0, Quality::kGood}).error().code, Code::kIo);
    EXPECT_EQ(gateway.adapter().write({kLight, true}).error().code, Code::kIo);
    broker.start();
    Listener device(broker);
    ASSERT_TRUE(gateway.connected());
    const size_t before = gateway.samples(kTemperature).size();
    ASSERT_TRUE(soon([&] {
      device.say("zigbee2mqtt/kitchen", R"({"temperature":20})");
      return gateway.samples(kTemperature).size() > before;
    }));
    EXPECT_FALSE(gateway.away(kTemperature));
  }
  EXPECT_GE(gateway.adapter().figures().reconnects, 3U);
}

// Until the keepalive finds out, what is not answered for would go into the pulled cable as if it had arrived.
TEST(Mqtt, AConnectionThatLeadsNowhereIsGivenUpWithTheFirstRecordThatIsNotAnswered) {
  const MqttBroker broker;
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(gateway.connected());
  broker.freeze();
  EXPECT_EQ(gateway.adapter().publish({kTemperature, 1.0, 0, Quality::kGood}).error().code, Code::kIo) << "class A";
  EXPECT_EQ(gateway.adapter().publish({kLight, true, 0, Quality::kGood}).error().code, Code::kIo) << "class B";
  ASSERT_TRUE(soon([&] { return gateway.away(kTemperature); }));
  broker.thaw();
  ASSERT_TRUE(gateway.connected());
  ASSERT_TRUE(soon([&] { return gateway.adapter().publish({kTemperature, 2.0, 0, Quality::kGood}).has_value(); }));
}

TEST(Mqtt, ADeviceThatSaysItIsOfflineIsAway) {
  const MqttBroker broker;
  Listener device(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(gateway.connected());
  ASSERT_TRUE(soon([&] {
    return device.say("zigbee2mqtt/kitchen/availability", R"({"state":"offline"})") && gateway.away(kTemperature);
  }));
  device.say("zigbee2mqtt/kitchen/availability", R"({"state":"online"})");
  ASSERT_TRUE(soon([&] { return !gateway.away(kTemperature); }));
}

TEST(Mqtt, AWrongPasswordIsSaidAndTheRightOneIsReadFromItsFile) {
  TestFolder folder;
  // mosquitto_passwd's form of user "hearth" with password "secret" is made by the tool itself.
  const std::string users = (folder.path() / "users").string();
  ASSERT_EQ(test::run_program({"/usr/bin/mosquitto_passwd", "-b", "-c", users, "hearth", "secret"}, {}).exit_code, 0);
  const MqttBroker broker("allow_anonymous false\npassword_file " + users + "\n");
  folder.write("right", "secret\n");
  folder.write("wrong", "guess\n");
  const auto with = [&](const char* file) {
    return profile(broker, "user = \"hearth\"\npassword_file = \"" + (folder.path() / file).string() + "\"\n");
  };
  const AdapterHarness wrong(with("wrong"));
  EXPECT_TRUE(soon([&] { return wrong.adapter().figures().state.find("uthori") != std::string::npos; }))
      << wrong.adapter().figures().state;
  const AdapterHarness right(with("right"));
  EXPECT_TRUE(right.connected());
}

// A broker with a listener for TLS beside its plain one, and two authorities of which one is its own.
TEST(Mqtt, OverTlsABrokerIsBelievedByItsAuthorityOnly) {
  const TestFolder folder;
  const auto file = [&](const std::string& name) { return (folder.path() / name).string(); };
  for (const std::string name : {"own", "other"})
    ASSERT_TRUE(write_self_signed(file(name + ".pem"), file(name + ".key"), {"127.0.0.1"}));
  const int port = test::free_port();
  const MqttBroker broker("allow_anonymous true\nuser root\nlistener " + std::to_string(port) +
                          " 127.0.0.1\ncertfile " + file("own.pem") + "\nkeyfile " + file("own.key") + "\n");
  const auto over_tls = [&](const std::string& authority) {
    const std::string plain = "port = " + std::to_string(broker.port()) + "\n";
    std::string text = profile(broker, "ca_file = \"" + file(authority) + "\"\n");
    return text.replace(text.find(plain), plain.size(), "port = " + std::to_string(port) + "\n");
  };
  Listener others(broker);
  const AdapterHarness deceived(over_tls("other.pem"));
  {
    const AdapterHarness gateway(over_tls("own.pem"));
    ASSERT_TRUE(gateway.connected()) << gateway.adapter().figures().state;
    others.say("zigbee2mqtt/kitchen", R"({"temperature": 21.5})");
    EXPECT_TRUE(soon([&] { return !gateway.samples(kTemperature).empty(); }));
    EXPECT_TRUE(gateway.adapter().write({kLight, true}).has_value());
    EXPECT_TRUE(soon([&] { return others.last("zigbee2mqtt/lamp/set").has_value(); }));
  }
  EXPECT_FALSE(deceived.adapter().figures().connected);
  EXPECT_TRUE(soon([&] { return deceived.adapter().figures().state.contains("ertificate"); }))
      << deceived.adapter().figures().state;
}

}  // namespace
}  // namespace hearth::gateway
