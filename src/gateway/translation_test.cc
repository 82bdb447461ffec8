// Devices of one protocol, listeners of another: values of CoAP and CAN as MQTT, and wishes over MQTT back to both, through the guard.
#include <gtest/gtest.h>

#include "base/json.h"
#include "gateway/datagrams.h"
#include "gateway/gateway.h"
#include "support/device.h"
#include "support/mqtt_broker.h"
#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

using test::soon;

constexpr std::string_view kSite = R"(
[[signal]]
name = "level"
unit = "%"
[signal.write]
min = 0
max = 80
action = "low"
[[signal]]
name = "speed"
unit = "rpm"
[signal.write]
min = 0
max = 3000
action = "low"
[[adapter]]
type = "mqtt"
host = "127.0.0.1"
port = MQTT_PORT
request = [{ signal = "level", topic = "want/level" }, { signal = "speed", topic = "want/speed" }]
out = { topic = "plant/{signal}", signals = ["*"] }
[[adapter]]
type = "coap"
host = "127.0.0.1"
port = COAP_PORT
timeout = "500ms"
resource = [{ signal = "level", path = "/dev/level", writable = true }]
[[adapter]]
type = "can"
dbc = "DBC"
listen = "127.0.0.1:CAN_PORT"
send = "127.0.0.1:PEER_PORT"
field = [{ signal = "speed", message = "Motor", name = "Speed", writable = true }]
)";

TEST(Translation, ValuesOfCoapAndCanAreMqttAndWishesGoBack) {
  const TestFolder folder;
  const test::MqttBroker broker;
  test::Listener listener(broker);
  const int coap_port = test::free_port(), can_port = test::free_port();
  const test::Device device("coap_device.py", {std::to_string(coap_port)});
  ASSERT_TRUE(soon([&] { return device.said().find("ready") != std::string::npos; })) << device.said();
  const auto bus = listen_for_datagrams("127.0.0.1", 0);
  std::string site(kSite);
  for (const auto& [mark, text] : {std::pair{"MQTT_PORT", std::to_string(broker.port())},
                                   {"COAP_PORT", std::to_string(coap_port)},
                                   {"CAN_PORT", std::to_string(can_port)},
                                   {"PEER_PORT", std::to_string(bound_port(bus->get()))},
                                   {"DBC", std::string(HEARTH_TEST_DATA "/can/plant.dbc")}})
    site.replace(site.find(mark), std::string_view(mark).size(), text);
  folder.write("site.toml", site);
  const auto gateway = Gateway::start(
      {.profile = folder.path() / "site.toml", .folder = folder.path() / "data", .server = {}, .key = {}});
  ASSERT_TRUE(gateway.has_value()) << gateway.error().message;

  const auto told = [&](const std::string& topic, double value) {
    return soon([&] {
      const auto text = listener.last(topic);
      const auto json = text ? parse_json(*text) : fail(Code::kNotFound, "nothing yet");
      return json && json->at("value").to_number<double>() == value && json->at("quality") == "good";
    });
  };
  const std::string frame = "100#A00F000000000000";
  EXPECT_TRUE(told("plant/level", 20));
  EXPECT_TRUE(soon([&] {
    (void)send_datagram(bus->get(), *datagram_address("127.0.0.1", can_port, false), frame);
    return listener.last("plant/speed").has_value();
  }));
  EXPECT_TRUE(told("plant/speed", 1000));

  ASSERT_TRUE(listener.say("want/level", "55"));
  EXPECT_TRUE(told("plant/level", 55)) << device.said();
  ASSERT_TRUE(listener.say("want/level", "95"));  // over the limit: the guard keeps it
  ASSERT_TRUE(listener.say("want/speed", "2500"));
  std::array<char, 64> bytes{};
  std::string from;
  int64_t n = -1;
  ASSERT_TRUE(soon([&] { return (n = take_datagram(bus->get(), bytes, from)) > 0; }));
  EXPECT_EQ(std::string(bytes.data(), static_cast<size_t>(n)), "100#1027000000000000");
  ASSERT_TRUE(listener.say("want/level", "60"));
  EXPECT_TRUE(told("plant/level", 60));
  EXPECT_EQ(device.said().find("95"), std::string::npos) << device.said();
}

}  // namespace
}  // namespace hearth::gateway
