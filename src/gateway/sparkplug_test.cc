// A Sparkplug edge node, as a host by others (mqtt-spb-wrapper) decodes it.
#include <boost/json.hpp>
#include <functional>

#include "support/adapter_harness.h"
#include "support/device.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::Device;
using test::Listener;
using test::MqttBroker;
using test::soon;
namespace json = boost::json;

std::string profile(const MqttBroker& broker) {
  return R"(
[[signal]]
name = "pump1/pressure"
unit = "bar"
min = 0
max = 16
[[signal]]
name = "pump1/setpoint"
[signal.write]
min = 0
max = 10
[[signal]]
name = "pump1/on"
type = "bool"
[signal.write]
[[signal]]
name = "state"
type = "text"
[[adapter]]
type = "sparkplug"
group = "plant"
node = "gw-1"
signals = ["state"]
)" + broker.where() +
         "[[adapter.device]]\nname = \"pump1\"\nsignals = [\"pump1/*\"]\n";
}
enum : SignalId { kPressure, kSetpoint, kOn, kState };

// Everything the host has decoded, in order.
class Host {
 public:
  explicit Host(const MqttBroker& broker)
      : listener_(broker), device_("sparkplug_host.py", {std::to_string(broker.port()), "plant"}) {
    EXPECT_TRUE(soon([&] { return !device_.running() || listener_.last("ready/host"); }));
    EXPECT_TRUE(device_.running()) << device_.said();
  }
  std::vector<json::object> lines() const {
    std::vector<json::object> all;
    const std::string said = device_.said();
    for (size_t at = 0, end = 0; (end = said.find('\n', at)) != std::string::npos; at = end + 1) {
      json::error_code error;
      json::value line = json::parse(std::string_view(said).substr(at, end - at), error);
      if (!error && line.is_object()) all.push_back(line.as_object());
    }
    return all;
  }
  // Payloads of one topic.
  std::vector<json::object> payloads(std::string_view topic) const {
    std::vector<json::object> all;
    for (const json::object& line : lines())
      if (line.contains("topic") && line.at("topic").as_string() == topic)
        all.push_back(line.at("payload").as_object());
    return all;
  }
  bool sees(std::string_view topic, size_t times) const {
    return soon([&] { return payloads(topic).size() >= times; });
  }
  void command(const json::object& wanted) { EXPECT_TRUE(listener_.say("host/command", json::serialize(wanted))); }
  std::string said() const { return device_.said(); }
  Listener& listener() { return listener_; }

 private:
  Listener listener_;
  Device device_;
};

json::value metric(const json::object& payload, std::string_view name) {
  for (const json::value& each : payload.at("metrics").as_array())
    if (each.at("name").as_string() == name) return each;
  return nullptr;
}
// 64-bit numbers are texts in protobuf's JSON.
uint64_t number(const json::object& object, std::string_view key) {
  return object.contains(key) ? std::stoull(std::string(object.at(key).as_string())) : 0;
}

constexpr const char* kNodeBirth = "spBv1.0/plant/NBIRTH/gw-1";
constexpr const char* kDeviceBirth = "spBv1.0/plant/DBIRTH/gw-1/pump1";
constexpr const char* kDeviceData = "spBv1.0/plant/DDATA/gw-1/pump1";

TEST(Sparkplug, BirthsSayEverythingAndDataFollowInOrder) {
  const MqttBroker broker;
  const Host host(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(host.sees(kDeviceBirth, 1)) << host.said();
  const auto node = host.payloads(kNodeBirth).at(0), device = host.payloads(kDeviceBirth).at(0);
  EXPECT_EQ(number(node, "seq"), 0U);
  EXPECT_EQ(metric(node, "bdSeq").at("long_value"), "0");
  EXPECT_EQ(metric(node, "Node Control/Rebirth").at("boolean_value"), false);
  EXPECT_EQ(metric(node, "state").at("is_null"), true);
  EXPECT_EQ(number(device, "seq"), 1U);
  EXPECT_EQ(metric(device, "pressure").at("properties").at("keys").as_array().size(), 4U);
  EXPECT_EQ(metric(device, "pressure").at("properties").at("values").at(1).at("string_value"), "bar");

  ASSERT_TRUE(gateway.adapter().publish({kPressure, 4.25, 1'700'000'000'000, Quality::kGood}).has_value());
  ASSERT_TRUE(gateway.adapter().publish({kPressure, 4.0, 1'600'000'000'000, Quality::kGood}).has_value());
  ASSERT_TRUE(gateway.adapter().publish({kOn, true, 1'700'000'000'000, Quality::kGood}).has_value());
  ASSERT_TRUE(host.sees(kDeviceData, 3));
  const auto data = host.payloads(kDeviceData);
  EXPECT_EQ(metric(data[0], "pressure").at("double_value"), 4.25);
  EXPECT_EQ(metric(data[0], "pressure").at("timestamp"), "1700000000000");
  EXPECT_FALSE(metric(data[0], "pressure").as_object().contains("is_historical"));
  EXPECT_EQ(metric(data[1], "pressure").at("is_historical"), true);  // from the store, after an outage
  EXPECT_EQ(metric(data[2], "on").at("boolean_value"), true);
  for (size_t i = 0; i < data.size(); i++) EXPECT_EQ(number(data[i], "seq"), 2 + i);
}

TEST(Sparkplug, TheNumberWrapsAfter255AndARebirthBeginsAnew) {
  const MqttBroker broker;
  Host host(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(host.sees(kDeviceBirth, 1));
  for (int i = 0; i < 300; i++)
    ASSERT_TRUE(gateway.adapter().publish({kPressure, i * 0.01, 1'700'000'000'000 + i, Quality::kGood}).has_value());
  ASSERT_TRUE(host.sees(kDeviceData, 300));
  const auto data = host.payloads(kDeviceData);
  for (size_t i = 0; i < data.size(); i++) ASSERT_EQ(number(data[i], "seq"), (2 + i) % 256) << i;
  host.command({{"node", "gw-1"}, {"name", "Node Control/Rebirth"}, {"value", true}});
  ASSERT_TRUE(host.sees(kDeviceBirth, 2));
  EXPECT_EQ(number(host.payloads(kNodeBirth).at(1), "seq"), 0U);
  EXPECT_EQ(metric(host.payloads(kNodeBirth).at(1), "bdSeq").at("long_value"), "0");
  EXPECT_EQ(metric(host.payloads(kDeviceBirth).at(1), "pressure").at("double_value"), 2.99);
}

// Each connection has the next bdSeq, in its births and in the death that belongs to them; a kill of the broker ends no gateway.
TEST(Sparkplug, AfterAnOutageTheNodeIsBornWithTheNextBdSeqAndStoppingItSaysItsDeath) {
  MqttBroker broker;
  auto gateway = std::make_unique<AdapterHarness>(profile(broker));
  ASSERT_TRUE(gateway->connected());
  broker.kill();
  ASSERT_TRUE(soon([&] { return !gateway->adapter().figures().connected; }));
  EXPECT_EQ(gateway->adapter().publish({kPressure, 1.0, 0, Quality::kGood}).error().code, Code::kIo);
  broker.start();
  Host host(broker);
  ASSERT_TRUE(gateway->connected());
  host.command({{"node", "gw-1"}, {"name", "Node Control/Rebirth"}, {"value", true}});
  ASSERT_TRUE(host.sees(kDeviceBirth, 1));
  const std::string bd_seq(metric(host.payloads(kNodeBirth).back(), "bdSeq").at("long_value").as_string());
  EXPECT_GE(std::stoi(bd_seq), 1);
  gateway.reset();
  ASSERT_TRUE(host.sees("spBv1.0/plant/NDEATH/gw-1", 1));
  const auto death = host.payloads("spBv1.0/plant/NDEATH/gw-1").at(0);
  EXPECT_EQ(metric(death, "bdSeq").at("long_value"), json::value(bd_seq));
  EXPECT_EQ(death.at("metrics").as_array().size(), 1U);
  EXPECT_FALSE(death.contains("seq"));
}

TEST(Sparkplug, ADeviceAllOfWhoseValuesAreStaleDiesAndIsBornAgain) {
  const MqttBroker broker;
  const Host host(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(host.sees(kDeviceBirth, 1));
  for (const SignalId id : {kPressure, kSetpoint})
    ASSERT_TRUE(gateway.adapter().publish({id, 1.0, 1000, Quality::kStale}).has_value());
  EXPECT_TRUE(host.payloads("spBv1.0/plant/DDEATH/gw-1/pump1").empty());
  ASSERT_TRUE(gateway.adapter().publish({kOn, true, 1000, Quality::kStale}).has_value());
  ASSERT_TRUE(host.sees("spBv1.0/plant/DDEATH/gw-1/pump1", 1));
  ASSERT_TRUE(gateway.adapter().publish({kPressure, 2.0, 2000, Quality::kGood}).has_value());
  ASSERT_TRUE(host.sees(kDeviceBirth, 2));
}

TEST(Sparkplug, CommandsOfTheHostBecomeRequestsAndOthersAreCounted) {
  const MqttBroker broker;
  Host host(broker);
  const AdapterHarness gateway(profile(broker));
  ASSERT_TRUE(host.sees(kDeviceBirth, 1));
  host.command({{"node", "gw-1"}, {"device", "pump1"}, {"name", "setpoint"}, {"value", 7.5}});
  host.command({{"node", "gw-1"}, {"device", "pump1"}, {"name", "on"}, {"value", false}});
  host.command({{"node", "gw-1"}, {"device", "pump1"}, {"name", "pressure"}, {"value", 1.0}});  // not writable
  host.command({{"node", "gw-1"}, {"device", "pump1"}, {"name", "setpoint"}, {"value", "unlock"}});
  host.command({{"node", "gw-1"}, {"name", "setpoint"}, {"value", 3.0}});  // of the device, not of the node
  ASSERT_TRUE(soon([&] { return gateway.adapter().figures().refused == 3; })) << gateway.adapter().figures().refused;
  ASSERT_EQ(gateway.requests().size(), 2U);
  EXPECT_EQ(gateway.requests()[0].first.signal, kSetpoint);
  EXPECT_EQ(gateway.requests()[0].first.value, Value(7.5));
  EXPECT_EQ(gateway.requests()[0].second, "sparkplug spBv1.0/plant/DCMD/gw-1/pump1");
  EXPECT_EQ(gateway.requests()[1].first.value, Value(false));
  for (const std::string& noise :
       {std::string("\xff\xff\xff\xff"), std::string("\x12\x7f\x01", 3), std::string("\x12\x03\x0a\x7f\x00", 5)})
    EXPECT_TRUE(host.listener().say("spBv1.0/plant/DCMD/gw-1/pump1", noise));
  EXPECT_TRUE(soon([&] { return gateway.adapter().figures().refused == 6; }));
}

}  // namespace
}  // namespace hearth::gateway
