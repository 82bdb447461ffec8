// Devices that speak MQTT: zigbee2mqtt, Tasmota, ESPHome, own firmware. Topics and JSON members are mapped to signals one by one, both ways.
#include <boost/json/serialize.hpp>
#include <map>
#include <unordered_map>

#include "gateway/adapters.h"
#include "gateway/mqtt_client.h"
#include "gateway/profile.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

enum class Meaning : uint8_t { kSample, kRequest, kAvailable };

// What one topic says about one signal, or about whether a device is there.
struct Point {
  Meaning meaning = Meaning::kSample;
  SignalId signal = 0;
  Place place;
  std::string time_pointer;  // milliseconds since 1970; empty: as it comes
  double scale = 1, offset = 0;
  std::vector<SignalId> signals;  // kAvailable
};

struct Command {
  std::string topic, key;  // {"key": value}; empty: the value alone
  BoolTexts texts;
  bool retain = false;
};

struct Mapping {
  std::unordered_map<std::string, std::vector<Point>> points;  // by topic
  std::map<SignalId, Command> commands;
  std::string out_topic;  // {signal} stands for the name; empty: nothing goes out
  std::vector<bool> out;
  bool out_retain = false;
};

Result<std::string> topic_of(const ConfigTable& table) {
  std::string topic = TRY(table.needed_text("topic"));
  if (!plain_topic(topic)) return table.wrong("topic", "has to be one topic of at most 512 bytes, without + and #");
  return topic;
}

Result<> read_points(const ConfigTable& table, std::string_view key, Meaning meaning, const SignalNames& names,
                     std::span<const Signal> signals, Mapping& mapping) {
  const std::vector<ConfigTable> entries = TRY(table.tables(key));
  for (const ConfigTable& entry : entries) {
    Point point;
    point.meaning = meaning;
    const std::string topic = TRY(topic_of(entry));
    point.place = TRY(read_place(entry));
    if (meaning == Meaning::kAvailable) {
      point.signals = TRY(names.listed(entry, "signals"));
      if (point.place.texts.on.empty()) point.place.texts = {"online", "offline"};
    } else {
      point.signal = TRY(names.named(entry, "signal"));
      if (meaning == Meaning::kRequest && !signals[point.signal].write)
        return entry.wrong("signal",
                           fmt::format("{} cannot be written: give it [signal.write]", signals[point.signal].name));
    }
    if (meaning == Meaning::kSample) {
      point.time_pointer = TRY(entry.text("time_pointer", ""));
      point.scale = TRY(entry.number("scale", 1, -1e12, 1e12));
      point.offset = TRY(entry.number("offset", 0, -1e12, 1e12));
    }
    if (auto finished = entry.finish(); !finished) return finished;
    mapping.points[topic].push_back(std::move(point));
  }
  return {};
}

Result<> read_commands(const ConfigTable& table, const SignalNames& names, std::span<const Signal> signals,
                       Mapping& mapping) {
  const std::vector<ConfigTable> entries = TRY(table.tables("command"));
  for (const ConfigTable& entry : entries) {
    Command command;
    const SignalId id = TRY(names.named(entry, "signal"));
    if (!signals[id].write)
      return entry.wrong("signal", fmt::format("{} cannot be written: give it [signal.write]", signals[id].name));
    command.topic = TRY(topic_of(entry));
    command.key = TRY(entry.text("key", ""));
    command.texts.on = TRY(entry.text("on", ""));
    command.texts.off = TRY(entry.text("off", ""));
    command.retain = TRY(entry.flag("retain", false));
    if (auto finished = entry.finish(); !finished) return finished;
    mapping.commands[id] = std::move(command);
  }
  return {};
}

Result<Mapping> read_mapping(const ConfigTable& table, std::span<const Signal> signals) {
  Mapping mapping;
  const SignalNames names(signals);
  for (const auto& [key, meaning] :
       {std::pair{"in", Meaning::kSample}, {"request", Meaning::kRequest}, {"available", Meaning::kAvailable}})
    if (auto read = read_points(table, key, meaning, names, signals, mapping); !read)
      return std::unexpected(read.error());
  if (auto read = read_commands(table, names, signals, mapping); !read) return std::unexpected(read.error());
  const ConfigTable out = TRY(table.table("out"));
  mapping.out_topic = TRY(out.text("topic", ""));
  mapping.out_retain = TRY(out.flag("retain", false));
  if (table.has("out") && (mapping.out_topic.find("{signal}") == std::string::npos || !plain_topic(mapping.out_topic)))
    return out.wrong("topic", "has to hold {signal}, as in \"plant/{signal}\", and neither + nor #");
  mapping.out.resize(signals.size());
  const std::vector<SignalId> listed = TRY(names.listed(out, "signals"));
  for (const SignalId id : listed) mapping.out[id] = true;
  if (auto finished = out.finish(); !finished) return std::unexpected(finished.error());
  return mapping;
}

class MqttAdapter final : public Adapter {
 public:
  MqttAdapter(MqttOptions options, Mapping mapping, std::span<const Signal> signals)
      : mapping_(std::move(mapping)), signals_(signals.begin(), signals.end()), client_(std::move(options), counters_) {
    for (const auto& [topic, points] : mapping_.points)
      for (const Point& point : points)
        if (point.meaning == Meaning::kSample) inputs_from_.push_back(point.signal);
  }
  ~MqttAdapter() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    inputs_ = std::move(inputs);
    return client_.start({.will = {},
                          .connected = [this] { connected(); },
                          .lost = [this] { inputs_.away(inputs_from_, true); },
                          .message = [this](std::string_view topic, std::string_view payload,
                                            bool retained) { take(topic, payload, retained); }});
  }
  void stop() override { client_.stop({}); }
  AdapterFigures figures() const override { return counters_.figures(); }

  Result<> publish(const Sample& sample) override {
    if (sample.signal >= mapping_.out.size() || !mapping_.out[sample.signal])
      return fail(Code::kUnsupported, "not a signal that this adapter sends");
    const Signal& signal = signals_[sample.signal];
    std::string topic = mapping_.out_topic;
    topic.replace(topic.find("{signal}"), 8, signal.name);
    const boost::json::object body = {{"value", json_of(sample.value)},
                                      {"time", sample.time_ms},
                                      {"quality", name_of(sample.quality)},
                                      {"unit", signal.unit}};
    // What must not be lost leaves the store only once the broker has it.
    const bool must_arrive = signal.record_class == RecordClass::kA;
    if (auto sent = client_.publish({topic, boost::json::serialize(body), must_arrive ? 1 : 0, mapping_.out_retain},
                                    must_arrive);
        !sent)
      return sent;
    counters_.sent++;
    return {};
  }

  Result<> write(const Write& write) override {
    const auto found = mapping_.commands.find(write.signal);
    if (found == mapping_.commands.end())
      return fail(Code::kNotFound, "no command of this adapter writes signal {}", write.signal);
    const Command& command = found->second;
    if (write.value.index() != static_cast<size_t>(signals_[write.signal].type))
      return fail(Code::kInvalidArgument, "{} has another type", signals_[write.signal].name);
    std::string payload = text_of(write.value, command.texts);
    if (!command.key.empty())
      payload = boost::json::serialize(boost::json::object{{command.key, json_of(write.value, command.texts)}});
    if (auto sent = client_.publish({command.topic, std::move(payload), 1, command.retain}, true); !sent) return sent;
    counters_.sent++;
    return {};
  }

 private:
  void connected() {
    for (const auto& [topic, points] : mapping_.points) client_.subscribe(topic);
    inputs_.away(inputs_from_, false);
  }

  void take(std::string_view topic, std::string_view bytes, bool retained) {
    const auto found = mapping_.points.find(std::string(topic));
    if (found == mapping_.points.end()) {
      counters_.refused++;
      return;
    }
    Payload payload(bytes);
    const int64_t now = now_ms();
    for (const Point& point : found->second) {
      if (point.meaning == Meaning::kSample)
        take_sample(point, payload, now);
      else if (point.meaning == Meaning::kRequest)
        take_request(point, payload, topic, retained);
      else if (const auto there = payload.value(SignalType::kBool, point.place))
        inputs_.away(point.signals, !std::get<bool>(*there));
    }
  }

  void take_sample(const Point& point, Payload& payload, int64_t now) {
    if (payload.silent(point.place)) return;
    const Signal& signal = signals_[point.signal];
    std::optional<Value> value = payload.value(signal.type, point.place);
    if (value && signal.type == SignalType::kNumber) value = std::get<double>(*value) * point.scale + point.offset;
    double time_ms = static_cast<double>(now);
    if (!point.time_pointer.empty())
      time_ms = std::get<double>(payload.value(SignalType::kNumber, {point.time_pointer, {}}).value_or(Value(-1.0)));
    if (!(time_ms >= 0 && time_ms < 1e15)) time_ms = -1;
    const Sample sample = make_sample(signal, point.signal, value, static_cast<int64_t>(time_ms), now);
    (sample.quality == Quality::kBad ? counters_.refused : counters_.received)++;
    inputs_.sample(sample);
  }

  // A command that the broker kept would be carried out at every connect.
  void take_request(const Point& point, Payload& payload, std::string_view topic, bool retained) {
    const auto value = payload.value(signals_[point.signal].type, point.place);
    if (retained || !value) {
      counters_.refused++;
      return;
    }
    counters_.received++;
    inputs_.request({point.signal, *value}, fmt::format("mqtt {}", topic));
  }

  Mapping mapping_;
  std::vector<Signal> signals_;
  std::vector<SignalId> inputs_from_;
  GatewayInputs inputs_;
  Counters counters_;
  MqttClient client_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  MqttOptions options = TRY(MqttOptions::read(table));
  Mapping mapping = TRY(read_mapping(table, signals));
  return std::make_unique<MqttAdapter>(std::move(options), std::move(mapping), signals);
}

void parse(std::string_view bytes) {
  Payload payload(bytes);
  const Signal signal{.name = "fuzz", .label = {}, .type = SignalType::kNumber, .unit = {}, .write = {}};
  for (const SignalType type : {SignalType::kBool, SignalType::kNumber, SignalType::kText})
    for (const char* pointer : {"", "/value", "/a/0/b"})
      (void)make_sample(signal, 0, payload.value(type, {pointer, {}}), 0, 0);
}

}  // namespace

AdapterKind mqtt_kind() { return {"mqtt", "devices and services that speak MQTT 5 or 3.1.1", make, parse}; }

}  // namespace hearth::gateway
