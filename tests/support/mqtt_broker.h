// A real MQTT broker (mosquitto) on a loopback port, for one test; and a client of its own that sees everything.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gateway/mqtt_client.h"
#include "support/ports.h"
#include "support/program.h"
#include "support/test_folder.h"

namespace hearth::test {

class MqttBroker {
 public:
  explicit MqttBroker(const std::string& more = "allow_anonymous true\n") : more_(more) { start(); }
  void start() {
    folder_.write("mosquitto.conf", "listener " + std::to_string(port_) + " 127.0.0.1\n" + more_);
    program_ = std::make_unique<Program>(
        std::vector<std::string>{"/usr/sbin/mosquitto", "-c", (folder_.path() / "mosquitto.conf").string()},
        Environment{});
    EXPECT_TRUE(soon([this] { return answers_on(port_); })) << program_->err();
  }
  void kill() { program_.reset(); }
  // Connections stay open and nothing is answered, as at the other end of a pulled cable.
  void freeze() const { program_->signal(SIGSTOP); }
  void thaw() const { program_->signal(SIGCONT); }
  [[nodiscard]] int port() const { return port_; }
  // The entries of a profile that lead here.
  [[nodiscard]] std::string where() const {
    return "host = \"127.0.0.1\"\nport = " + std::to_string(port_) + "\npause_max = \"300ms\"\n";
  }
  [[nodiscard]] const TestFolder& folder() const { return folder_; }

 private:
  TestFolder folder_;
  std::string more_;
  int port_ = free_port();
  std::unique_ptr<Program> program_;
};

// Somebody else at the broker: sees all topics, and says what a device would.
class Listener {
 public:
  struct Seen {
    std::string topic, payload;
    bool retained = false;
  };
  explicit Listener(const MqttBroker& broker, std::vector<std::string> topics = {"#"})
      : client_(options(broker), counters_) {
    EXPECT_TRUE(client_
                    .start({.will = {},
                            .connected =
                                [this, topics = std::move(topics)] {
                                  for (const auto& topic : topics) client_.subscribe(topic);
                                },
                            .lost = {},
                            .message =
                                [this](std::string_view topic, std::string_view payload, bool retained) {
                                  const std::scoped_lock lock(mutex_);
                                  seen_.push_back({std::string(topic), std::string(payload), retained});
                                }})
                    .has_value());
    EXPECT_TRUE(soon([this] { return say("hearth-test/listening", "1") && last("hearth-test/listening"); }));
  }
  bool say(const std::string& topic, const std::string& payload, bool retain = false) {
    return client_.publish({topic, payload, 1, retain}, true).has_value();
  }
  [[nodiscard]] std::vector<Seen> seen() const {
    const std::scoped_lock lock(mutex_);
    return seen_;
  }
  [[nodiscard]] std::optional<std::string> last(std::string_view topic) const {
    const std::scoped_lock lock(mutex_);
    for (auto at = seen_.rbegin(); at != seen_.rend(); ++at)
      if (at->topic == topic) return at->payload;
    return std::nullopt;
  }

 private:
  static gateway::MqttOptions options(const MqttBroker& broker) {
    gateway::MqttOptions options;
    options.host = "127.0.0.1";
    options.port = broker.port();
    options.pause_max = std::chrono::milliseconds(300);
    return options;
  }
  gateway::Counters counters_;
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;
  gateway::MqttClient client_;
};

}  // namespace hearth::test
