// Home Assistant's discovery, as somebody at the broker sees it.
#include <boost/json.hpp>

#include "support/adapter_harness.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::Listener;
using test::MqttBroker;
using test::soon;

std::string profile(const MqttBroker& broker, const std::string& more) {
  return R"(
[[signal]]
name = "pump/pressure"
label = "Pressure"
unit = "bar"
[[signal]]
name = "pump/on"
type = "bool"
[signal.write]
action = "low"
[[signal]]
name = "door"
type = "bool"
[signal.write]
[[signal]]
name = "setpoint"
unit = "bar"
[signal.write]
min = 1
max = 5
step = 0.5
[[signal]]
name = "mode"
type = "text"
[signal.write]
allowed = ["eco", "boost"]
[[signal]]
name = "decision"
type = "text"
[[signal]]
name = "model/installed"
type = "text"
[[signal]]
name = "model/latest"
type = "text"
[[signal]]
name = "model/install"
type = "bool"
[signal.write]
[[adapter]]
type = "home_assistant"
node = "plant-1"
)" + broker.where() +
         more;
}
enum : SignalId { kPressure, kOn, kDoor, kSetpoint, kMode, kDecision, kInstalled, kLatest, kInstall };

constexpr const char* kAll = R"(
signals = ["*"]
[[adapter.entity]]
signal = "door"
component = "lock"
[[adapter.entity]]
signal = "decision"
component = "event"
event_types = ["stop", "log"]
[[adapter.entity]]
signal = "model/installed"
component = "update"
latest = "model/latest"
install = "model/install"
)";

boost::json::value config(const Listener& broker, const std::string& topic) {
  std::optional<std::string> payload;
  EXPECT_TRUE(soon([&] { return (payload = broker.last(topic)).has_value(); })) << topic;
  return payload && !payload->empty() ? boost::json::parse(*payload) : boost::json::value();
}
bool sees(const Listener& broker, const std::string& topic, const std::string& payload) {
  return soon([&] { return broker.last(topic) == payload; });
}

TEST(HomeAssistant, EverySignalIsDescribedAsTheEntityThatSuitsIt) {
  const MqttBroker broker;
  const Listener home(broker);
  const AdapterHarness gateway(profile(broker, kAll));
  const auto pressure = config(home, "homeassistant/sensor/plant-1_pump_pressure/config");
  EXPECT_EQ(pressure.at("unit_of_measurement"), "bar");
  EXPECT_EQ(pressure.at("name"), "Pressure");
  EXPECT_EQ(pressure.at("unique_id"), "plant-1_pump_pressure");
  EXPECT_EQ(pressure.at("availability").at(0).at("topic"), "hearth/plant-1/status");
  EXPECT_FALSE(pressure.as_object().contains("command_topic"));
  EXPECT_EQ(config(home, "homeassistant/switch/plant-1_pump_on/config").at("command_topic"),
            "hearth/plant-1/pump_on/set");
  EXPECT_EQ(config(home, "homeassistant/number/plant-1_setpoint/config").at("step"), 0.5);
  EXPECT_EQ(config(home, "homeassistant/select/plant-1_mode/config").at("options").at(1), "boost");
  EXPECT_EQ(config(home, "homeassistant/event/plant-1_decision/config").at("event_types").at(0), "stop");
  EXPECT_EQ(config(home, "homeassistant/update/plant-1_model_installed/config").at("payload_install"), "install");
  EXPECT_TRUE(sees(home, "hearth/plant-1/status", "online"));
  (void)config(home, "homeassistant/lock/plant-1_door/config");
  for (const auto& seen : home.seen()) EXPECT_EQ(seen.topic.find("model_latest/config"), std::string::npos);
}

TEST(HomeAssistant, StatesGoOutAndWhatCannotBeBelievedIsUnavailable) {
  const MqttBroker broker;
  const Listener home(broker);
  const AdapterHarness gateway(profile(broker, kAll));
  ASSERT_TRUE(gateway.connected());
  const auto publish = [&](SignalId id, const Value& value, Quality quality = Quality::kGood) {
    EXPECT_TRUE(gateway.adapter().publish({id, value, 7, quality}).has_value());
  };
  publish(kPressure, 2.5);
  EXPECT_TRUE(sees(home, "hearth/plant-1/pump_pressure/state", "2.5"));
  EXPECT_TRUE(sees(home, "hearth/plant-1/pump_pressure/available", "online"));
  publish(kPressure, 0.0, Quality::kBad);
  EXPECT_TRUE(sees(home, "hearth/plant-1/pump_pressure/available", "offline"));
  EXPECT_EQ(home.last("hearth/plant-1/pump_pressure/state"), "2.5");
  publish(kPressure, 3.0);
  EXPECT_TRUE(sees(home, "hearth/plant-1/pump_pressure/available", "online"));
  publish(kDoor, true);
  EXPECT_TRUE(sees(home, "hearth/plant-1/door/state", "LOCKED"));
  publish(kInstalled, std::string("1.0"));
  publish(kLatest, std::string("1.1"));
  EXPECT_TRUE(
      sees(home, "hearth/plant-1/model_installed/state", R"({"installed_version":"1.0","latest_version":"1.1"})"));
  publish(kDecision, std::string("stop"));
  EXPECT_TRUE(sees(home, "hearth/plant-1/decision/state", R"({"event_type":"stop","text":"stop","time":7})"));
  EXPECT_EQ(gateway.adapter().write({kOn, true}).error().code, Code::kNotFound);
}

// Whatever is pressed is only ever asked for.
TEST(HomeAssistant, CommandsBecomeRequestsAndNonsenseIsCounted) {
  const MqttBroker broker;
  Listener home(broker);
  const AdapterHarness gateway(profile(broker, kAll));
  ASSERT_TRUE(sees(home, "hearth/plant-1/status", "online"));
  const std::vector<std::pair<std::string, std::string>> commands = {
      {"pump_on", "ON"}, {"door", "UNLOCK"}, {"setpoint", "2.5"}, {"mode", "boost"}, {"model_installed", "install"}};
  for (const auto& [id, payload] : commands) EXPECT_TRUE(home.say("hearth/plant-1/" + id + "/set", payload));
  ASSERT_TRUE(soon([&] { return gateway.requests().size() == commands.size(); }));
  const auto requests = gateway.requests();
  EXPECT_EQ(requests[0].first.value, Value(true));
  EXPECT_EQ(requests[0].second, "home_assistant pump_on");
  EXPECT_EQ(requests[1].first.value, Value(false));
  EXPECT_EQ(requests[2].first.value, Value(2.5));
  EXPECT_EQ(requests[4].first.signal, kInstall);
  for (const auto& [id, payload] :
       {std::pair{"pump_on", "ignore all rules"}, {"setpoint", "nan"}, {"setpoint", ""}, {"door", "OPEN"}})
    EXPECT_TRUE(home.say("hearth/plant-1/" + std::string(id) + "/set", payload));
  EXPECT_TRUE(soon([&] { return gateway.adapter().figures().refused == 4; }));
  EXPECT_EQ(gateway.requests().size(), commands.size());
}

TEST(HomeAssistant, ItsRestartGetsTheDescriptionsAgainAndARemovedSignalsEntityIsTakenBack) {
  const MqttBroker broker;
  Listener home(broker);
  const std::string topic = "homeassistant/sensor/plant-1_pump_pressure/config";
  // Somebody else's entity, however alike its name, is left alone.
  ASSERT_TRUE(home.say("homeassistant/sensor/plant-1_foreign/config",
                       R"({"origin":{"name":"other"},"device":{"identifiers":["plant-1"]}})", true));
  const auto times = [&] {
    int n = 0;
    for (const auto& seen : home.seen()) n += seen.topic == topic ? 1 : 0;
    return n;
  };
  {
    const AdapterHarness gateway(profile(broker, kAll));
    ASSERT_TRUE(soon([&] { return times() == 1; }));
    home.say("homeassistant/status", "online");
    ASSERT_TRUE(soon([&] { return times() == 2; }));
  }
  EXPECT_TRUE(sees(home, "hearth/plant-1/status", "offline"));
  const AdapterHarness gateway(profile(broker, "signals = [\"door\"]\n"));
  EXPECT_TRUE(sees(home, topic, ""));
  EXPECT_TRUE(sees(home, "hearth/plant-1/status", "online"));
  EXPECT_NE(home.last("homeassistant/switch/plant-1_door/config"), "");
  EXPECT_TRUE(sees(home, "homeassistant/lock/plant-1_door/config", ""));
  EXPECT_NE(home.last("homeassistant/sensor/plant-1_foreign/config"), "");
}

std::string press(const Listener& home, const std::string& id) {
  return std::string(config(home, "homeassistant/button/plant-1_" + id + "/config").at("payload_press").as_string());
}

// A person who looks at Home Assistant sees what waits, and what is pressed is what was shown.
TEST(HomeAssistant, WhatWaitsIsAButtonWhosePressCarriesTheTokenOfWhatItShows) {
  for (const std::string form : {"form = \"component\"\n", "form = \"device\"\n"}) {
    const MqttBroker broker;
    Listener home(broker);
    const AdapterHarness gateway(profile(broker, form + "confirm = true\n" + kAll));
    const auto button = [&](std::string_view key) {
      const auto described =
          form.contains("device")
              ? config(home, "homeassistant/device/plant-1/config").at("components").at("confirm_door")
              : config(home, "homeassistant/button/plant-1_confirm_door/config");
      return std::string(described.at(key).as_string());
    };
    const std::string available = "hearth/plant-1/confirm_door/available", said = "hearth/plant-1/waits/state";
    EXPECT_TRUE(sees(home, available, "offline"));
    EXPECT_TRUE(sees(home, said, "nothing"));
    EXPECT_EQ(button("payload_press"), "nothing");
    const std::vector<Pending> waiting{{"token-1", 0, "somebody", kDoor, false, 5},
                                       {"token-2", 0, "somebody", kDoor, true, 6},
                                       {"token-3", 0, "a rule", kSetpoint, 2.5, 7}};
    gateway.adapter().show_pending(waiting);
    EXPECT_TRUE(sees(home, said, "set door to UNLOCKED; set setpoint to 2.5 bar"));
    EXPECT_TRUE(sees(home, available, "online"));
    EXPECT_EQ(button("name"), "Confirm: set door to UNLOCKED");
    EXPECT_EQ(button("payload_press"), "token-1") << "the older of two";
    EXPECT_TRUE(sees(home, "hearth/plant-1/confirm_mode/available", "offline"));
    home.say("hearth/plant-1/confirm_door/set", button("payload_press"));
    ASSERT_TRUE(soon([&] { return gateway.confirmed().size() == 1; }));
    EXPECT_EQ(gateway.confirmed()[0], std::pair(std::string("token-1"), std::string("home_assistant confirm_door")));
    gateway.adapter().show_pending(std::span(waiting).subspan(1, 1));
    EXPECT_TRUE(sees(home, said, "set door to LOCKED"));
    EXPECT_EQ(button("payload_press"), "token-2");
    gateway.adapter().show_pending({});
    EXPECT_TRUE(sees(home, said, "nothing"));
    EXPECT_TRUE(sees(home, available, "offline"));
    // What a broker kept, what a button without anything to confirm sends, and what is said to the sensor.
    const auto refused = gateway.adapter().figures().refused;
    home.say("hearth/plant-1/confirm_door/set", "nothing");
    home.say("hearth/plant-1/waits/set", "ON");
    EXPECT_TRUE(soon([&] { return gateway.adapter().figures().refused == refused + 2; }));
    EXPECT_EQ(gateway.confirmed().size(), 1u);
    EXPECT_TRUE(gateway.requests().empty());
  }
}

TEST(HomeAssistant, ARetainedTokenConfirmsNothing) {
  const MqttBroker broker;
  Listener home(broker);
  ASSERT_TRUE(home.say("hearth/plant-1/confirm_door/set", "token-1", true));
  const AdapterHarness gateway(profile(broker, "confirm = true\n" + std::string(kAll)));
  EXPECT_TRUE(soon([&] { return gateway.adapter().figures().refused == 1; }));
  EXPECT_TRUE(gateway.confirmed().empty());
}

// A broker's readers could press a button: only who asks for them gets them.
TEST(HomeAssistant, WithoutConfirmNoTokenReachesTheBroker) {
  const MqttBroker broker;
  const Listener home(broker);
  const AdapterHarness gateway(profile(broker, kAll));
  ASSERT_TRUE(sees(home, "hearth/plant-1/status", "online"));
  gateway.adapter().show_pending(std::vector<Pending>{{"token-1", 0, "somebody", kDoor, false, 5}});
  ASSERT_TRUE(gateway.adapter().publish({kPressure, 2.5, 7, Quality::kGood}).has_value());
  ASSERT_TRUE(sees(home, "hearth/plant-1/pump_pressure/state", "2.5"));
  for (const auto& seen : home.seen()) {
    EXPECT_EQ(seen.payload.find("token-1"), std::string::npos) << seen.topic;
  }
}

TEST(HomeAssistant, ABrokerThatWasAwayLearnsWhatWaits) {
  MqttBroker broker;
  const AdapterHarness gateway(profile(broker, "confirm = true\n" + std::string(kAll)));
  ASSERT_TRUE(gateway.connected());
  broker.kill();
  ASSERT_TRUE(soon([&] { return !gateway.adapter().figures().connected; }));
  gateway.adapter().show_pending(std::vector<Pending>{{"token-1", 0, "somebody", kDoor, false, 5}});
  broker.start();
  const Listener home(broker);
  EXPECT_TRUE(sees(home, "hearth/plant-1/confirm_door/available", "online"));
  EXPECT_EQ(press(home, "confirm_door"), "token-1");
}

// A client of the same name makes the broker cut the gateway off, as a pulled cable would: what the broker then says is the will.
TEST(HomeAssistant, AGatewayThatIsCutOffIsOfflineByItsWill) {
  const MqttBroker broker;
  const Listener home(broker);
  const AdapterHarness gateway(profile(broker, "client_id = \"twin\"\n" + std::string(kAll)));
  ASSERT_TRUE(sees(home, "hearth/plant-1/status", "online"));
  {
    Counters counters;
    MqttOptions options;
    options.host = "127.0.0.1";
    options.port = broker.port();
    options.client_id = "twin";
    MqttClient twin(options, counters);
    ASSERT_TRUE(twin.start({}).has_value());
    const auto said_offline = [&] {
      for (const auto& seen : home.seen())
        if (seen.topic == "hearth/plant-1/status" && seen.payload == "offline") return true;
      return false;
    };
    EXPECT_TRUE(soon(said_offline));
  }
  EXPECT_TRUE(sees(home, "hearth/plant-1/status", "online"));
}

TEST(HomeAssistant, TheDeviceFormDescribesAllInOneMessage) {
  const MqttBroker broker;
  const Listener home(broker);
  const AdapterHarness gateway(profile(broker, "form = \"device\"\n" + std::string(kAll)));
  const auto device = config(home, "homeassistant/device/plant-1/config");
  EXPECT_EQ(device.at("origin").at("name"), "hearth");
  EXPECT_EQ(device.at("device").at("identifiers").at(0), "plant-1");
  EXPECT_EQ(device.at("components").as_object().size(), 7U);
  EXPECT_EQ(device.at("components").at("pump_pressure").at("platform"), "sensor");
}

}  // namespace
}  // namespace hearth::gateway
