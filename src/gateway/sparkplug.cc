// A Sparkplug B edge node (Eclipse Sparkplug 3.0, chapters 4 to 6): signals as metrics of the node and its devices, births and deaths,
// commands (NCMD, DCMD) as requests, which the guard judges.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/limits.h"
#include "gateway/adapters.h"
#include "gateway/mqtt_client.h"
#include "gateway/profile.h"
#include "gateway/protobuf.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

// Field numbers and codes of sparkplug_b.proto (Eclipse Tahu).
namespace field {
enum : int { kTimestamp = 1, kMetrics = 2, kSeq = 3 };
enum : int {
  kName = 1,
  kMetricTime = 3,
  kDatatype = 4,
  kHistorical = 5,
  kNull = 7,
  kProperties = 9,
  kInt = 10,
  kLong = 11,
  kFloat = 12,
  kDouble = 13,
  kBool = 14,
  kString = 15
};
enum : int { kKeys = 1, kValues = 2, kPropertyType = 1, kPropertyInt = 3, kPropertyDouble = 6, kPropertyString = 8 };
}  // namespace field
enum : uint8_t {
  kInt8 = 1,
  kInt32 = 3,
  kInt64 = 4,
  kUInt64 = 8,
  kTypeFloat = 9,
  kTypeDouble = 10,
  kBoolean = 11,
  kTypeString = 12
};
constexpr std::string_view kRebirth = "Node Control/Rebirth";
constexpr uint64_t kMetricsMost = 10'000;  // of one command

uint64_t datatype(SignalType type) {
  return type == SignalType::kBool ? kBoolean : type == SignalType::kNumber ? kTypeDouble : kTypeString;
}
// The specification knows good, bad and stale.
uint64_t quality_code(Quality quality) {
  return quality == Quality::kGood ? 192 : quality == Quality::kStale ? 500 : 0;
}

// What a device says about itself: keys and values in the same order.
class Properties {
 public:
  void integer(std::string_view key, uint64_t value) {
    add(key, kInt32, [&](ProtoWriter& to) { to.varint(field::kPropertyInt, value); });
  }
  void number(std::string_view key, double value) {
    add(key, kTypeDouble, [&](ProtoWriter& to) { to.number(field::kPropertyDouble, value); });
  }
  void text(std::string_view key, std::string_view value) {
    add(key, kTypeString, [&](ProtoWriter& to) { to.bytes(field::kPropertyString, value); });
  }
  [[nodiscard]] std::string bytes() const { return keys_.text() + values_.text(); }

 private:
  template <typename Fill>
  void add(std::string_view key, uint64_t type, Fill fill) {
    keys_.bytes(field::kKeys, key);
    ProtoWriter value;
    value.varint(field::kPropertyType, type);
    fill(value);
    values_.bytes(field::kValues, value.text());
  }
  ProtoWriter keys_, values_;
};

void put_value(ProtoWriter& metric, const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value))
    metric.varint(field::kBool, *flag ? 1 : 0);
  else if (const auto* number = std::get_if<double>(&value))
    metric.number(field::kDouble, *number);
  else
    metric.bytes(field::kString, std::get<std::string>(value));
}

// One metric of a command.
struct Wanted {
  std::string name;
  std::optional<Value> value;
};

std::optional<Wanted> read_metric(std::string_view bytes) {
  Wanted wanted;
  uint64_t type = 0, null = 0;
  ProtoField value;
  ProtoReader reader(bytes);
  while (const auto next = reader.next()) {
    if (next->field == field::kName)
      wanted.name = next->bytes.substr(0, 1024);
    else if (next->field == field::kDatatype)
      type = next->number;
    else if (next->field == field::kNull)
      null = next->number;
    else if (next->field >= field::kInt && next->field <= field::kString)
      value = *next;
  }
  if (!reader.ok()) return std::nullopt;
  const bool is_signed = type >= kInt8 && type <= kInt64;
  if (null != 0) return wanted;
  switch (value.field) {
    case field::kInt:
      wanted.value =
          is_signed ? static_cast<double>(static_cast<int32_t>(value.number)) : static_cast<double>(value.number);
      break;
    case field::kLong:
      wanted.value =
          is_signed ? static_cast<double>(static_cast<int64_t>(value.number)) : static_cast<double>(value.number);
      break;
    case field::kFloat:
      wanted.value = static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(value.number)));
      break;
    case field::kDouble:
      wanted.value = std::bit_cast<double>(value.number);
      break;
    case field::kBool:
      wanted.value = value.number != 0;
      break;
    case field::kString:
      wanted.value = std::string(value.bytes.substr(0, limits::kGatewayTextBytes + 1));
      break;
    default:
      break;
  }
  return wanted;
}

// Empty if the payload breaks the format.
std::optional<std::vector<Wanted>> read_payload(std::string_view bytes) {
  std::vector<Wanted> all;
  ProtoReader reader(bytes);
  while (const auto next = reader.next()) {
    if (next->field != field::kMetrics) continue;
    auto metric = read_metric(next->bytes);
    if (!metric || all.size() >= kMetricsMost) return std::nullopt;
    all.push_back(std::move(*metric));
  }
  return reader.ok() ? std::optional(std::move(all)) : std::nullopt;
}

// The node itself (empty name) or a device of it.
struct Part {
  std::string name;
  std::vector<SignalId> signals;
  bool alive = true;
};

struct Options {
  MqttOptions mqtt;
  std::string group, node;
  std::vector<Part> parts;  // the node first
};

bool good_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && id.find_first_of("+/#") == std::string_view::npos && plain_topic(id);
}

Result<Options> read_options(const ConfigTable& table, std::span<const Signal> signals) {
  Options options;
  options.mqtt = TRY(MqttOptions::read(table));
  options.group = TRY(table.needed_text("group"));
  options.node = TRY(table.needed_text("node"));
  for (const auto& [key, id] : {std::pair{"group", &options.group}, {"node", &options.node}})
    if (!good_id(*id)) return table.wrong(key, "may not hold +, / or #");
  const SignalNames names(signals);
  options.parts.push_back({"", TRY(names.listed(table, "signals"))});
  const std::vector<ConfigTable> devices = TRY(table.tables("device"));
  for (const ConfigTable& device : devices) {
    Part part{TRY(device.needed_text("name")), TRY(names.listed(device, "signals"))};
    if (!good_id(part.name)) return device.wrong("name", "may not hold +, / or #");
    for (const Part& other : options.parts)
      if (other.name == part.name) return device.wrong("name", fmt::format("{} is there twice", part.name));
    if (auto finished = device.finish(); !finished) return std::unexpected(finished.error());
    options.parts.push_back(std::move(part));
  }
  std::map<SignalId, std::string> owner;
  for (const Part& part : options.parts)
    for (const SignalId id : part.signals)
      if (!owner.try_emplace(id, part.name).second)
        return table.wrong("signals", fmt::format("{} is listed twice: a metric belongs to the node or to one device",
                                                  signals[id].name));
  return options;
}

class Sparkplug final : public Adapter {
 public:
  Sparkplug(Options options, std::span<const Signal> signals)
      : options_(std::move(options)),
        signals_(signals.begin(), signals.end()),
        parts_(options_.parts),
        client_(options_.mqtt, counters_) {
    for (size_t i = 0; i < parts_.size(); i++)
      for (const SignalId id : parts_[i].signals) {
        by_signal_[id] = i;
        by_metric_[{i, metric_name(parts_[i], id)}] = id;
      }
  }
  ~Sparkplug() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    inputs_ = std::move(inputs);
    return client_.start({.will = [this] { return next_death(); },
                          .connected = [this] { connected(); },
                          .lost = [this] { born(false); },
                          .message = [this](std::string_view topic, std::string_view payload,
                                            bool retained) { take(topic, payload, retained); }});
  }
  void stop() override {
    born(false);
    client_.stop(death());
  }
  AdapterFigures figures() const override { return counters_.figures(); }
  Result<> write(const Write& write) override {
    return fail(Code::kNotFound, "a Sparkplug host has no device that takes signal {}", write.signal);
  }

  Result<> publish(const Sample& sample) override {
    const auto found = by_signal_.find(sample.signal);
    if (found == by_signal_.end()) return fail(Code::kUnsupported, "not a metric of this node");
    const std::scoped_lock lock(mutex_);
    Part& part = parts_[found->second];
    const auto [last, fresh] = last_.try_emplace(sample.signal, sample);
    const bool historical = !fresh && sample.time_ms < last->second.time_ms;
    if (!historical) last->second = sample;
    if (!born_) return fail(Code::kIo, "no connection to {}:{}", options_.mqtt.host, options_.mqtt.port);
    // A device all of whose values are stale is lost; with its next one it is born again.
    const bool alive = std::ranges::any_of(
        part.signals, [&](SignalId id) { return !last_.contains(id) || last_.at(id).quality != Quality::kStale; });
    if (!part.name.empty() && alive != part.alive) {
      part.alive = alive;
      return alive ? birth(part) : send("DDEATH", part, {});
    }
    if (!part.alive && !historical) return {};
    ProtoWriter metric;
    put_metric(metric, part, sample.signal, sample, historical, false);
    if (auto sent = send("DATA", part, std::vector{metric.text()}); !sent) return sent;
    counters_.sent++;
    return {};
  }

 private:
  std::string topic(std::string_view type, const Part& part) const {
    const bool node = part.name.empty();
    const std::string_view letter = type == "DDEATH" ? "" : node ? "N" : "D";
    return fmt::format("spBv1.0/{}/{}{}/{}{}{}", options_.group, letter, type, options_.node, node ? "" : "/",
                       part.name);
  }
  std::string metric_name(const Part& part, SignalId id) const {
    const std::string& name = signals_[id].name;
    return !part.name.empty() && name.starts_with(part.name + "/") ? name.substr(part.name.size() + 1) : name;
  }

  // Its bdSeq is that of the connection which follows, and of the births in it.
  std::optional<MqttMessage> next_death() {
    {
      const std::scoped_lock lock(mutex_);
      bd_seq_ = static_cast<uint8_t>(bd_seq_ + 1);
    }
    return death();
  }
  MqttMessage death() {
    const std::scoped_lock lock(mutex_);
    ProtoWriter payload;
    payload.varint(field::kTimestamp, now_ms());
    payload.bytes(field::kMetrics, bd_seq_metric());
    return {topic("DEATH", parts_[0]), payload.text(), 1, false};
  }
  std::string bd_seq_metric() const {
    ProtoWriter metric;
    metric.bytes(field::kName, "bdSeq");
    metric.varint(field::kMetricTime, now_ms());
    metric.varint(field::kDatatype, kUInt64);
    metric.varint(field::kLong, bd_seq_);
    return metric.text();
  }

  void put_metric(ProtoWriter& metric, const Part& part, SignalId id, const std::optional<Sample>& sample,
                  bool historical, bool in_birth) {
    const Signal& signal = signals_[id];
    metric.bytes(field::kName, metric_name(part, id));
    metric.varint(field::kMetricTime, sample ? sample->time_ms : now_ms());
    metric.varint(field::kDatatype, datatype(signal.type));
    if (historical) metric.varint(field::kHistorical, 1);
    const bool null = !sample || sample->quality == Quality::kBad;
    if (null) metric.varint(field::kNull, 1);
    Properties properties;
    properties.integer("Quality", sample ? quality_code(sample->quality) : 0);
    if (in_birth && !signal.unit.empty()) properties.text("engUnit", signal.unit);
    if (in_birth && std::isfinite(signal.min)) properties.number("engLow", signal.min);
    if (in_birth && std::isfinite(signal.max)) properties.number("engHigh", signal.max);
    metric.bytes(field::kProperties, properties.bytes());
    if (!null) put_value(metric, sample->value);
  }

  // With the lock held: nothing else comes between a number and its message.
  Result<> send(std::string_view type, const Part& part, const std::vector<std::string>& metrics) {
    ProtoWriter payload;
    payload.varint(field::kTimestamp, now_ms());
    for (const std::string& metric : metrics) payload.bytes(field::kMetrics, metric);
    payload.varint(field::kSeq, seq_);
    if (auto sent = client_.publish({topic(type, part), payload.text(), 0, false}); !sent) return sent;
    seq_++;
    return {};
  }

  Result<> birth(const Part& part) {
    std::vector<std::string> metrics;
    if (part.name.empty()) {
      seq_ = 0;
      metrics.push_back(bd_seq_metric());
      ProtoWriter rebirth;
      rebirth.bytes(field::kName, kRebirth);
      rebirth.varint(field::kMetricTime, now_ms());
      rebirth.varint(field::kDatatype, kBoolean);
      rebirth.varint(field::kBool, 0);
      metrics.push_back(rebirth.text());
    }
    for (const SignalId id : part.signals) {
      const auto last = last_.find(id);
      ProtoWriter metric;
      put_metric(metric, part, id, last == last_.end() ? std::nullopt : std::optional(last->second), false, true);
      metrics.push_back(metric.text());
    }
    return send("BIRTH", part, metrics);
  }
  void births() {
    const std::scoped_lock lock(mutex_);
    bool sent = true;
    for (const Part& part : parts_)
      if (sent && part.alive) sent = birth(part).has_value();
    born_ = sent;
  }
  void born(bool is) {
    const std::scoped_lock lock(mutex_);
    born_ = is;
  }

  void connected() {
    client_.subscribe(topic("CMD", parts_[0]));
    for (const Part& part : parts_)
      if (!part.name.empty()) client_.subscribe(topic("CMD", part));
    births();
  }

  void take(std::string_view topic_text, std::string_view payload, bool retained) {
    const auto part = std::ranges::find_if(parts_, [&](const Part& each) { return topic("CMD", each) == topic_text; });
    const auto metrics = read_payload(payload);
    if (part == parts_.end() || !metrics || retained) {
      counters_.refused++;
      return;
    }
    for (const Wanted& wanted : *metrics) {
      if (part->name.empty() && wanted.name == kRebirth) {
        if (wanted.value == Value(true)) births();
        continue;
      }
      const auto found = by_metric_.find({part - parts_.begin(), wanted.name});
      std::optional<Value> value = wanted.value;
      // Hosts write true and false as numbers, and numbers of any width.
      if (found != by_metric_.end() && value && value->index() != static_cast<size_t>(signals_[found->second].type))
        value = value_of_text(signals_[found->second].type, text_of(*value));
      if (found == by_metric_.end() || !signals_[found->second].write || !value) {
        counters_.refused++;
        continue;
      }
      counters_.received++;
      inputs_.request({found->second, *value}, fmt::format("sparkplug {}", topic_text));
    }
  }

  const Options options_;
  const std::vector<Signal> signals_;
  std::vector<Part> parts_;  // `alive` under the lock, the rest does not change
  std::map<SignalId, size_t> by_signal_;
  std::map<std::pair<size_t, std::string>, SignalId> by_metric_;
  GatewayInputs inputs_;
  std::mutex mutex_;
  std::map<SignalId, Sample> last_;  // the newest of each, for births
  uint8_t seq_ = 0, bd_seq_ = 255;
  bool born_ = false;
  Counters counters_;
  MqttClient client_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  Options options = TRY(read_options(table, signals));
  return std::make_unique<Sparkplug>(std::move(options), signals);
}

void parse(std::string_view bytes) { (void)read_payload(bytes); }

}  // namespace

AdapterKind sparkplug_kind() {
  return {"sparkplug", "signals as metrics of a Sparkplug B edge node and its devices", make, parse};
}

}  // namespace hearth::gateway
