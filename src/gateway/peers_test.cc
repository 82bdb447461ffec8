// What others' gateways fail at, by the number of their issue; others of these are beside what they test (Peer in the name, or # above it).
#include <boost/json.hpp>

#include "gateway/gateway.h"
#include "support/mqtt_broker.h"

namespace hearth::gateway {
namespace {

using test::Listener;
using test::MqttBroker;
using test::soon;

class Peers : public testing::Test {
 protected:
  void start(const std::string& site) {
    folder_.write("site.toml", site);
    auto started = Gateway::start(
        {.profile = folder_.path() / "site.toml", .folder = folder_.path() / "data", .server = {}, .key = {}});
    ASSERT_TRUE(started) << started.error().message;
    gateway_ = std::move(*started);
  }
  [[nodiscard]] boost::json::object signal(std::string_view name) const {
    boost::json::array found;
    gateway_->look([&](const Pipeline& pipeline, const Moment&) { found = pipeline.signals_json(name, 1); });
    return found.at(0).as_object();
  }
  [[nodiscard]] boost::json::object adapter(std::string_view name) const {
    const boost::json::object state = gateway_->state();
    for (const auto& each : state.at("adapters").as_array())
      if (each.at("name").as_string() == name) return each.as_object();
    ADD_FAILURE() << name;
    return {};
  }
  [[nodiscard]] bool connected(std::string_view name) const {
    return soon([&] { return adapter(name).at("connected").as_bool(); });
  }

  const TestFolder folder_;
  MqttBroker broker_;
  std::unique_ptr<Gateway> gateway_;
};

// thingsboard-gateway #343: with more than 14 Modbus devices the link to the cloud drops. Here 20, none of which answers.
TEST_F(Peers, Peer343ManyModbusDevicesThatDoNotAnswerLeaveTheLinkAlone) {
  constexpr int kDevices = 20;
  std::string site = "[[signal]]\nname = \"value\"\n[[adapter]]\ntype = \"mqtt\"\n" + broker_.where() +
                     "in = [{ signal = \"value\", topic = \"value\" }]\n"
                     "out = { topic = \"out/{signal}\", signals = [\"value\"] }\n";
  for (int i = 0; i < kDevices; ++i)
    site += fmt::format(
        "[[signal]]\nname = \"device{0}\"\n[[adapter]]\ntype = \"modbus\"\nname = \"device{0}\"\nhost = \"127.0.0.1\"\n"
        "port = {1}\npoll = \"20ms\"\npause_max = \"50ms\"\nregister = [{{ signal = \"device{0}\", address = 0 }}]\n",
        i, test::free_port());
  start(site);
  ASSERT_TRUE(connected("mqtt"));
  Listener far(broker_);
  for (int i = 1; i <= 50; ++i)
    ASSERT_TRUE(soon([&] {
      far.say("value", std::to_string(i));
      const auto last = far.last("out/value");
      return last && boost::json::parse(*last).at("value").to_number<double>() == i;
    })) << i;
  EXPECT_EQ(adapter("mqtt").at("reconnects").to_number<int>(), 0);
  EXPECT_FALSE(adapter("device7").at("connected").as_bool());
}

// kubeedge #4289 and #4701: a twin changes by itself when its mapper has stopped, and a lost mapper makes a node flap.
TEST_F(Peers, Peer4289WhatIsKnownOfADeviceThatIsAwayStaysAndIsStale) {
  start(
      "[[signal]]\nname = \"lamp\"\ntype = \"bool\"\n[signal.write]\naction = \"low\"\n[[adapter]]\ntype = \"mqtt\"\n" +
      broker_.where() +
      "in = [{ signal = \"lamp\", topic = \"lamp\" }]\ncommand = [{ signal = \"lamp\", topic = \"lamp/set\" }]\n");
  ASSERT_TRUE(connected("mqtt"));
  {
    Listener device(broker_);
    ASSERT_TRUE(soon([&] {
      device.say("lamp", "true");
      return signal("lamp").at("quality").as_string() == "good";
    }));
  }
  for (int outage = 0; outage < 3; ++outage) {
    broker_.kill();
    ASSERT_TRUE(soon([&] { return signal("lamp").at("quality").as_string() == "stale"; }));
    EXPECT_EQ(signal("lamp").at("value"), true);
    broker_.start();
    ASSERT_TRUE(connected("mqtt"));
    EXPECT_EQ(signal("lamp").at("quality").as_string(), "stale") << "until the device itself says something";
    const Listener watcher(broker_);
    EXPECT_FALSE(watcher.last("lamp/set").has_value());
    Listener device(broker_);
    ASSERT_TRUE(soon([&] {
      device.say("lamp", "true");
      return signal("lamp").at("quality").as_string() == "good";
    }));
  }
}

// iotedge #2757: what was wanted while a device was away is not there afterwards. An interlock's write is sent until the device shows it.
TEST_F(Peers, Peer2757WhatHasToHoldReachesADeviceThatWasAway) {
  MqttBroker away;
  start(
      "[[signal]]\nname = \"pressure\"\n[[signal]]\nname = \"run\"\ntype = \"bool\"\n[signal.write]\naction = \"low\"\n"
      "[[interlock]]\nname = \"overpressure\"\nwhen = \"pressure > 9\"\nwrite = \"run\"\nvalue = false\n"
      "[[adapter]]\ntype = \"mqtt\"\nname = \"sensors\"\n" +
      broker_.where() + "in = [{ signal = \"pressure\", topic = \"pressure\" }]\n[[adapter]]\ntype = \"mqtt\"\n" +
      "name = \"pumps\"\n" + away.where() +
      "in = [{ signal = \"run\", topic = \"run\" }]\ncommand = [{ signal = \"run\", topic = \"run/set\" }]\n");
  ASSERT_TRUE(connected("sensors") && connected("pumps"));
  away.kill();
  ASSERT_TRUE(soon([&] { return !adapter("pumps").at("connected").as_bool(); }));
  Listener sensor(broker_);
  ASSERT_TRUE(soon([&] {
    sensor.say("pressure", "12");
    const auto rows = gateway_->audit().last(100).value();
    return std::ranges::any_of(rows, [](const AuditRow& row) { return row.kind == "failed"; });
  }));
  away.start();
  Listener pump(away);
  ASSERT_TRUE(soon([&] { return pump.last("run/set") == "false"; }));
}

}  // namespace
}  // namespace hearth::gateway
