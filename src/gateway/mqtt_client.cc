#include "gateway/mqtt_client.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>

#include <algorithm>
#include <array>
#include <random>

#include "base/limits.h"
#include "base/mapped_file.h"

namespace hearth::gateway {
namespace {

constexpr int kKeepaliveSeconds = 20;
constexpr int kInFlightMax = 1000;  // messages of QoS 1 that the broker has not yet taken
constexpr std::chrono::milliseconds kFirstPause{250};
constexpr std::chrono::seconds kConnectTime{5}, kTakenTime{5};
constexpr int kLoopMs = 100;

std::string random_id() {
  std::random_device random;
  return fmt::format("hearth-{:08x}", random());
}

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

}  // namespace

bool plain_topic(std::string_view topic) {
  return !topic.empty() && topic.size() <= 512 && std::ranges::none_of(topic, [](char c) {
    return c == '+' || c == '#' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

Result<MqttOptions> MqttOptions::read(const ConfigTable& table) {
  MqttOptions options;
  options.host = TRY(table.needed_text("host"));
  options.client_id = TRY(table.text("client_id", ""));
  options.user = TRY(table.text("user", ""));
  const std::string password_file = TRY(table.text("password_file", ""));
  if (!password_file.empty()) {
    auto password = read_file(password_file, 4096);
    if (!password) return table.wrong("password_file", password.error().message);
    options.password = *password;
    while (!options.password.empty() && (options.password.back() == '\n' || options.password.back() == '\r'))
      options.password.pop_back();
  }
  const std::string version = TRY(table.text("version", "5"));
  if (version != "5" && version != "3.1.1")
    return table.wrong("version", fmt::format("is \"{}\", has to be \"5\" or \"3.1.1\"", version));
  options.version = version == "5" ? 5 : 4;
  options.ca_file = TRY(table.text("ca_file", ""));
  options.certificate_file = TRY(table.text("certificate_file", ""));
  options.key_file = TRY(table.text("key_file", ""));
  options.tls = TRY(table.flag("tls", !options.ca_file.empty() || !options.certificate_file.empty()));
  options.port = static_cast<int>(TRY(table.integer("port", options.tls ? 8883 : 1883, 1, 65535)));
  options.pause_max = TRY(table.duration("pause_max", options.pause_max));
  if (options.certificate_file.empty() != options.key_file.empty())
    return table.wrong("key_file", "certificate_file and key_file belong together: give both");
  return options;
}

struct MqttClient::Callbacks {
  static void connected(mosquitto* /*client*/, void* self, int code, int /*flags*/,
                        const mosquitto_property* /*properties*/) {
    auto& client = *static_cast<MqttClient*>(self);
    if (code != 0) {
      client.refusal_ = client.options_.version == 5 ? mosquitto_reason_string(code) : mosquitto_connack_string(code);
      return;
    }
    client.refusal_.clear();
    client.in_flight_ = 0;
    client.unanswered_ = false;
    client.online_ = true;
    client.counters_.state(true, fmt::format("connected to {}:{}", client.options_.host, client.options_.port));
    if (client.events_.connected) client.events_.connected();
  }
  static void message(mosquitto* /*client*/, void* self, const mosquitto_message* message) {
    auto& client = *static_cast<MqttClient*>(self);
    if (message->payloadlen < 0 || static_cast<uint64_t>(message->payloadlen) > limits::kGatewayMessageBytes) {
      client.counters_.refused++;
      return;
    }
    const std::string_view payload(static_cast<const char*>(message->payload),
                                   message->payload == nullptr ? 0 : message->payloadlen);
    if (client.events_.message) client.events_.message(message->topic, payload, message->retain);
  }
  static void taken(mosquitto* /*client*/, void* self, int id, int /*reason*/,
                    const mosquitto_property* /*properties*/) {
    auto& client = *static_cast<MqttClient*>(self);
    const std::scoped_lock lock(client.mutex_);
    if (client.in_flight_ > 0) client.in_flight_--;
    if (client.waiting_ > 0) client.taken_.insert(id);
    client.changed_.notify_all();
  }
};

Result<> MqttClient::apply_options() {
  const int protocol = options_.version;
  mosquitto_int_option(client_, MOSQ_OPT_PROTOCOL_VERSION, protocol);
  mosquitto_int_option(client_, MOSQ_OPT_TCP_NODELAY, 1);
  mosquitto_threaded_set(client_, true);
  mosquitto_connect_v5_callback_set(client_, Callbacks::connected);
  mosquitto_message_callback_set(client_, Callbacks::message);
  mosquitto_publish_v5_callback_set(client_, Callbacks::taken);
  if (!options_.user.empty()) mosquitto_username_pw_set(client_, options_.user.c_str(), or_null(options_.password));
  if (!options_.tls) return {};
  int code = MOSQ_ERR_SUCCESS;
  if (options_.ca_file.empty()) {
    code = mosquitto_int_option(client_, MOSQ_OPT_TLS_USE_OS_CERTS, 1);
    if (code == MOSQ_ERR_SUCCESS && !options_.certificate_file.empty())
      return fail(Code::kInvalidArgument,
                  "certificate_file without ca_file: name the authority that signs the broker's certificate");
  } else {
    code = mosquitto_tls_set(client_, options_.ca_file.c_str(), nullptr, or_null(options_.certificate_file),
                             or_null(options_.key_file), nullptr);
  }
  if (code != MOSQ_ERR_SUCCESS)
    return fail(Code::kInvalidArgument, "TLS to {}: {}: can ca_file, certificate_file and key_file be read?",
                options_.host, mosquitto_strerror(code));
  return {};
}

Result<> MqttClient::start(MqttEvents events) {
  stop({});
  static const int initialised = mosquitto_lib_init();
  (void)initialised;
  events_ = std::move(events);
  client_ = mosquitto_new(options_.client_id.empty() ? random_id().c_str() : options_.client_id.c_str(), true, this);
  if (client_ == nullptr)
    return fail(Code::kInvalidArgument, "client_id \"{}\" cannot be used: choose letters and digits",
                options_.client_id);
  if (auto applied = apply_options(); !applied) {
    mosquitto_destroy(std::exchange(client_, nullptr));
    return applied;
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  return {};
}

void MqttClient::run(const std::stop_token& stop) {
  std::minstd_rand random(std::random_device{}());
  std::chrono::milliseconds pause = kFirstPause;
  for (bool first = true; !stop.stop_requested(); first = false) {
    if (!first) counters_.reconnects++;
    if (connect_once(stop)) {
      pause = kFirstPause;
      loop_until_lost(stop);
      {
        const std::scoped_lock lock(mutex_);
        online_ = false;
      }
      changed_.notify_all();
      if (events_.lost && !stop.stop_requested()) events_.lost();
    }
    if (stop.stop_requested()) break;
    // Many gateways lose a broker at once: they do not all come back at once.
    const std::chrono::milliseconds now = pause / 2 + std::chrono::milliseconds(random() % (pause.count() / 2 + 1));
    counters_.state(false, fmt::format("{}:{}: {}: next try in {} ms", options_.host, options_.port,
                                       refusal_.empty() ? "no answer" : refusal_, now.count()));
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, now, [] { return false; });
    pause = std::min(pause * 2, options_.pause_max);
  }
}

// True once the broker has accepted us. Everything waits in pieces of kLoopMs, so that stop() waits for no network (but for a name's lookup).
bool MqttClient::connect_once(const std::stop_token& stop) {
  if (events_.will) {
    mosquitto_will_clear(client_);
    if (const auto will = events_.will())
      mosquitto_will_set(client_, will->topic.c_str(), static_cast<int>(will->payload.size()), will->payload.data(),
                         will->qos, will->retain);
  }
  refusal_.clear();
  const auto end = std::chrono::steady_clock::now() + kConnectTime;
  int code = mosquitto_connect_async(client_, options_.host.c_str(), options_.port, kKeepaliveSeconds);
  while (code == MOSQ_ERR_SUCCESS && !online_ && refusal_.empty() && !stop.stop_requested() &&
         std::chrono::steady_clock::now() < end)
    code = mosquitto_loop(client_, kLoopMs, 1);
  if (online_) return true;
  if (refusal_.empty() && code != MOSQ_ERR_SUCCESS)
    refusal_ =
        code == MOSQ_ERR_ERRNO ? "cannot be reached"
        : code == MOSQ_ERR_TLS
            ? "no TLS with it: is its certificate of the authority in ca_file and for this host, and does it want ours"
            : mosquitto_strerror(code);
  mosquitto_disconnect(client_);
  return false;
}

void MqttClient::loop_until_lost(const std::stop_token& stop) {
  int code = MOSQ_ERR_SUCCESS;
  while (code == MOSQ_ERR_SUCCESS && !stop.stop_requested() && !unanswered_)
    code = mosquitto_loop(client_, kLoopMs, 100);
  if (unanswered_) refusal_ = "no answer to what was sent";
  if (code != MOSQ_ERR_SUCCESS) refusal_ = mosquitto_strerror(code);
}

void MqttClient::stop(const std::optional<MqttMessage>& goodbye) {
  if (client_ == nullptr) return;
  if (goodbye && online_) (void)publish({goodbye->topic, goodbye->payload, 1, goodbye->retain}, true);
  thread_.request_stop();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  mosquitto_disconnect(client_);
  mosquitto_loop(client_, 0, 10);
  mosquitto_destroy(std::exchange(client_, nullptr));
  online_ = false;
  counters_.state(false, "stopped");
}

Result<> MqttClient::publish(const MqttMessage& message, bool until_taken) {
  if (!online_) return fail(Code::kIo, "no connection to {}:{}", options_.host, options_.port);
  if (message.qos > 0 && in_flight_ >= kInFlightMax)
    return fail(Code::kBusy, "{} messages wait for {}:{}", kInFlightMax, options_.host, options_.port);
  const bool waits = until_taken && message.qos > 0 && std::this_thread::get_id() != thread_.get_id();
  std::unique_lock lock(mutex_);
  if (waits) waiting_++;
  if (message.qos > 0) in_flight_++;
  lock.unlock();
  int id = 0;
  const int code = mosquitto_publish(client_, &id, message.topic.c_str(), static_cast<int>(message.payload.size()),
                                     message.payload.data(), message.qos, message.retain);
  lock.lock();
  bool taken = code == MOSQ_ERR_SUCCESS;
  if (!taken && message.qos > 0 && in_flight_ > 0) in_flight_--;
  if (waits) {
    const bool answered =
        taken && changed_.wait_for(lock, kTakenTime, [&] { return taken_.erase(id) > 0 || !online_; });
    // Messages without an answer would vanish in such a connection until the keepalive finds out.
    if (taken && !answered) unanswered_ = true, online_ = false;
    taken = answered && online_;
    if (--waiting_ == 0) taken_.clear();
  }
  if (code != MOSQ_ERR_SUCCESS)
    return fail(Code::kIo, "{}:{}: {}", options_.host, options_.port, mosquitto_strerror(code));
  if (!taken) return fail(Code::kIo, "{}:{} has not said that it has {}", options_.host, options_.port, message.topic);
  return {};
}

void MqttClient::subscribe(const std::string& topic, int qos) {
  mosquitto_subscribe(client_, nullptr, topic.c_str(), qos);
}

}  // namespace hearth::gateway
