// A person confirms by a button of Home Assistant: from the request to the device, by a real broker.
#include <boost/json.hpp>

#include "gateway/gateway.h"
#include "support/mqtt_broker.h"

namespace hearth::gateway {
namespace {

using test::Listener;
using test::MqttBroker;
using test::soon;

std::string site(const MqttBroker& broker, const std::string& decisions) {
  return R"(
[[signal]]
name = "door"
type = "bool"
write = {}
[[signal]]
name = "light"
type = "bool"
[signal.write]
action = "low"
[[signal]]
name = "alarm"
type = "bool"
[[guard]]
name = "not in an alarm"
writes = ["door"]
require = ["alarm == false"]
[[adapter]]
type = "mqtt"
name = "devices"
in = [{ signal = "alarm", topic = "alarm" }]
command = [{ signal = "door", topic = "door/set" }, { signal = "light", topic = "light/set" }]
)" + broker.where() +
         R"([[adapter]]
type = "home_assistant"
confirm = true
signals = ["*"]
)" + broker.where() +
         decisions;
}

class ConfirmTest : public testing::Test {
 protected:
  void start(const std::string& decisions = "") {
    folder_.write("site.toml", site(broker_, decisions));
    auto started = Gateway::start(
        {.profile = folder_.path() / "site.toml", .folder = folder_.path() / "data", .server = {}, .key = {}});
    ASSERT_TRUE(started) << started.error().message;
    gateway_ = std::move(*started);
    ASSERT_TRUE(soon([&] { return at("hearth/hearth/status", "online"); }));
    ASSERT_TRUE(soon([&] {
      home_.say("alarm", "false");
      return at("hearth/hearth/alarm/state", "OFF");
    }));
  }
  [[nodiscard]] bool at(const std::string& topic, const std::string& payload) const {
    return home_.last(topic) == payload;
  }
  [[nodiscard]] size_t times(const std::string& topic) const {
    size_t n = 0;
    for (const auto& seen : home_.seen()) n += seen.topic == topic ? 1 : 0;
    return n;
  }
  // Asks for the door, and gives what the button then sends.
  std::string ask() {
    home_.say("hearth/hearth/door/set", "ON");
    EXPECT_TRUE(soon([&] { return at("hearth/hearth/confirm_door/available", "online"); }));
    return std::string(boost::json::parse(home_.last("homeassistant/button/hearth_confirm_door/config").value())
                           .at("payload_press")
                           .as_string());
  }
  void press(const std::string& token) { home_.say("hearth/hearth/confirm_door/set", token); }
  [[nodiscard]] bool audited(std::string_view kind, size_t count) const {
    return soon([&] {
      size_t n = 0;
      const auto rows = gateway_->audit().last(1000).value();
      for (const AuditRow& row : rows) n += row.kind == kind ? 1 : 0;
      return n == count;
    });
  }

  const TestFolder folder_;
  MqttBroker broker_;
  Listener home_{broker_};
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(ConfirmTest, PressedOnceItActsOnceAndASecondTimeNothing) {
  start();
  const std::string token = ask();
  EXPECT_EQ(token.size(), 32u);
  EXPECT_EQ(times("door/set"), 0u);
  press(token);
  ASSERT_TRUE(soon([&] { return times("door/set") == 1; }));
  EXPECT_TRUE(at("door/set", "true"));
  EXPECT_TRUE(soon([&] { return at("hearth/hearth/confirm_door/available", "offline"); }));
  press(token);
  press("0123456789abcdef0123456789abcdef");
  EXPECT_TRUE(audited("confirmation_refused", 2));
  EXPECT_TRUE(audited("confirmed", 1));
  EXPECT_EQ(times("door/set"), 1u);
}

TEST_F(ConfirmTest, TheGuardIsAskedAgainAtThePress) {
  start();
  const std::string token = ask();
  home_.say("alarm", "true");
  ASSERT_TRUE(soon([&] { return at("hearth/hearth/alarm/state", "ON"); }));
  press(token);
  EXPECT_TRUE(audited("confirmed", 1)) << "a person did";
  EXPECT_TRUE(audited("act", 0)) << "but nothing was done";
  EXPECT_EQ(times("door/set"), 0u);
}

TEST_F(ConfirmTest, WhatIsTooLateIsGoneFromHomeAssistantAndItsTokenWorthNothing) {
  start("[decisions]\nconfirm_within = \"1s\"\n");
  const std::string token = ask();
  ASSERT_TRUE(soon([&] { return at("hearth/hearth/confirm_door/available", "offline"); }));
  EXPECT_TRUE(audited("expired", 1));
  press(token);
  EXPECT_TRUE(audited("confirmation_refused", 1));
  EXPECT_TRUE(audited("act", 0));
}

// The profile is read again while something waits: it is asked for anew, never done by an old button.
TEST_F(ConfirmTest, AReloadTakesTheButtonBack) {
  start();
  const std::string token = ask();
  ASSERT_TRUE(gateway_->reload());
  EXPECT_TRUE(soon([&] { return at("hearth/hearth/confirm_door/available", "offline"); }));
  press(token);
  EXPECT_TRUE(audited("confirmation_refused", 1));
  EXPECT_TRUE(audited("act", 0));
  home_.say("alarm", "false");
  ASSERT_TRUE(soon([&] { return at("hearth/hearth/status", "online"); }));
  const std::string next = ask();
  EXPECT_NE(next, token);
}

}  // namespace
}  // namespace hearth::gateway
