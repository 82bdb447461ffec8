// A connection to an MQTT broker that comes back whatever happens: what MQTT devices, Home Assistant and Sparkplug share.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"
#include "gateway/adapters.h"
#include "gateway/config.h"

struct mosquitto;

namespace hearth::gateway {

struct MqttMessage {
  std::string topic, payload;
  int qos = 0;
  bool retain = false;
};

struct MqttOptions {
  std::string host, client_id, user, password;
  int port = 1883;
  int version = 5;                                  // or 4: MQTT 3.1.1
  std::string ca_file, certificate_file, key_file;  // TLS if there is any of them, or `tls`
  bool tls = false;
  std::chrono::milliseconds pause_max{3'000};  // between two tries to connect

  // host, port, client_id, user, password_file, version, tls, ca_file, certificate_file, key_file, pause_max.
  static Result<MqttOptions> read(const ConfigTable& table);
};

// Thread rule: start() and stop() by one thread; publish() and subscribe() by any. The functions below are called in the client's own
// thread and may publish and subscribe.
struct MqttEvents {
  std::function<std::optional<MqttMessage>()> will;  // asked before each connect
  std::function<void()> connected;                   // subscriptions go here: they are made anew each time
  std::function<void()> lost;                        // after a connection that was there
  std::function<void(std::string_view topic, std::string_view payload, bool retained)> message;
};

class MqttClient {
 public:
  MqttClient(MqttOptions options, Counters& counters) : options_(std::move(options)), counters_(counters) {}
  ~MqttClient() { stop({}); }
  MqttClient(const MqttClient&) = delete;
  MqttClient& operator=(const MqttClient&) = delete;

  Result<> start(MqttEvents events);
  // Sends `goodbye` if there is a connection, then disconnects, so that the broker does not send the will.
  void stop(const std::optional<MqttMessage>& goodbye);

  // kIo without a connection, kBusy if too much waits for the broker. With `until_taken` (and a QoS of 1) it returns once the broker
  // has said that it has the message; kIo after 5 s, and the connection, which may lead nowhere, is made anew.
  Result<> publish(const MqttMessage& message, bool until_taken = false);
  void subscribe(const std::string& topic, int qos = 1);
  [[nodiscard]] const MqttOptions& options() const { return options_; }

 private:
  struct Callbacks;
  Result<> apply_options();
  void run(const std::stop_token& stop);
  bool connect_once(const std::stop_token& stop);
  void loop_until_lost(const std::stop_token& stop);

  MqttOptions options_;
  Counters& counters_;
  MqttEvents events_;
  mosquitto* client_ = nullptr;
  std::atomic<bool> online_ = false;
  std::atomic<bool> unanswered_ = false;  // what was sent on this connection
  std::string refusal_;                   // why the broker would not have us
  std::mutex mutex_;
  std::condition_variable_any changed_;
  int waiting_ = 0;        // calls of publish that wait
  std::set<int> taken_{};  // what the broker has taken while there were any
  std::atomic<int> in_flight_ = 0;
  std::jthread thread_;
};

// Whether a topic may be published to, or exactly subscribed to: 1 to 512 bytes, no wildcards, no control characters.
bool plain_topic(std::string_view topic);

}  // namespace hearth::gateway
