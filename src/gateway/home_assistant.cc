// Signals as entities of Home Assistant: MQTT discovery (core's components/mqtt/discovery.py), in the component form that every version
// knows or the device form of 2024.12 and later. What people press there comes back as a request, which the guard judges.
#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <map>
#include <set>

#include "gateway/adapters.h"
#include "gateway/mqtt_client.h"
#include "gateway/profile.h"
#include "gateway/sample.h"
#include "text/utf8.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 9> kComponents = {"sensor", "binary_sensor", "switch", "light", "number",
                                                         "select", "lock",          "event",  "update"};
constexpr std::string_view kNothingWaits = "nothing";
constexpr size_t kStateMost = 200;  // bytes; Home Assistant takes states of 255 characters

// What an entity is for: the value of a signal, confirming what waits to be written to it, or telling everything that waits.
enum class Role : uint8_t { kValue, kConfirm, kWaits };

struct Entity {
  SignalId signal = 0;
  std::optional<SignalId> latest, install;  // update: the newest version, and what starts it
  std::string id, component, name, device_class, icon;
  std::vector<std::string> event_types;
  Role role = Role::kValue;
  bool lock = false;  // its two states are called locked and unlocked
};

struct Options {
  MqttOptions mqtt;
  std::string prefix, base, node, device_name;  // base: of our topics; node: begins every id
  bool device_form = false, confirm = false;
  std::vector<Entity> entities;
};

// Ids may hold letters, digits, _ and -.
std::string id_of(std::string_view name) {
  std::string id(name);
  for (char& c : id)
    if (c == '/') c = '_';
  return id;
}

std::string_view default_component(const Signal& signal) {
  switch (signal.type) {
    case SignalType::kBool:
      return signal.write ? "switch" : "binary_sensor";
    case SignalType::kNumber:
      return signal.write ? "number" : "sensor";
    case SignalType::kText:
      return signal.write ? "select" : "sensor";
  }
  return "sensor";
}

bool writes(const Entity& entity) {
  return entity.component == "switch" || entity.component == "light" || entity.component == "number" ||
         entity.component == "select" || entity.component == "lock";
}

Result<> check(const ConfigTable& table, const Entity& entity, const Signal& signal) {
  if (std::ranges::find(kComponents, entity.component) == kComponents.end())
    return table.wrong("component",
                       fmt::format("is \"{}\", has to be one of {}", entity.component, fmt::join(kComponents, ", ")));
  if (writes(entity) && !signal.write)
    return table.wrong(
        "component",
        fmt::format("{} cannot be written: give it [signal.write], or use sensor or binary_sensor", signal.name));
  const bool flag = entity.component == "switch" || entity.component == "light" || entity.component == "lock" ||
                    entity.component == "binary_sensor";
  if (flag != (signal.type == SignalType::kBool) ||
      (entity.component == "number" && signal.type != SignalType::kNumber) ||
      ((entity.component == "select" || entity.component == "event" || entity.component == "update") &&
       signal.type != SignalType::kText))
    return table.wrong("component", fmt::format("\"{}\" does not go with a signal of type {}", entity.component,
                                                name_of(signal.type)));
  if (entity.component == "event" && entity.event_types.empty())
    return table.wrong("event_types", "an event needs them: event_types = [\"stopped\", \"started\"]");
  return {};
}

Result<Entity> read_entity(const ConfigTable& table, const SignalNames& names, std::span<const Signal> signals) {
  Entity entity;
  entity.signal = TRY(names.named(table, "signal"));
  const Signal& signal = signals[entity.signal];
  entity.id = id_of(signal.name);
  entity.component = TRY(table.text("component", default_component(signal)));
  entity.lock = entity.component == "lock";
  entity.name = TRY(table.text("name", signal.label));
  entity.device_class = TRY(table.text("device_class", ""));
  entity.icon = TRY(table.text("icon", ""));
  entity.event_types = TRY(table.texts("event_types"));
  if (table.has("latest")) entity.latest = TRY(names.named(table, "latest"));
  if (table.has("install")) {
    entity.install = TRY(names.named(table, "install"));
    const Signal& install = signals[*entity.install];
    if (install.type != SignalType::kBool || !install.write)
      return table.wrong("install", fmt::format("{} has to be a bool with [signal.write]", install.name));
  }
  if (auto checked = check(table, entity, signal); !checked) return std::unexpected(checked.error());
  if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
  return entity;
}

// For each signal shown that a person has to confirm a button, and one sensor for all of them.
void add_confirmation(std::vector<Entity>& entities, std::span<const Signal> signals) {
  std::map<SignalId, Entity> buttons;
  for (const Entity& entity : entities) {
    const SignalId target = entity.install.value_or(entity.signal);
    const auto& write = signals[target].write;
    if (!write || write->action_class != ActionClass::kConfirm) continue;
    Entity button;
    button.signal = target, button.id = "confirm_" + id_of(signals[target].name), button.component = "button";
    button.name = entity.install ? signals[target].label : entity.name;
    button.role = Role::kConfirm, button.lock = entity.lock;
    buttons.try_emplace(target, std::move(button));
  }
  if (buttons.empty()) return;
  Entity waits;
  waits.signal = buttons.begin()->first, waits.id = "waits", waits.component = "sensor";
  waits.name = "Waits for confirmation", waits.role = Role::kWaits;
  entities.push_back(std::move(waits));
  for (auto& [signal, button] : buttons) entities.push_back(std::move(button));
}

Result<Options> read_options(const ConfigTable& table, std::span<const Signal> signals) {
  Options options;
  options.mqtt = TRY(MqttOptions::read(table));
  options.prefix = TRY(table.text("prefix", "homeassistant"));
  options.node = TRY(table.text("node", "hearth"));
  options.base = TRY(table.text("base", "hearth/" + options.node));
  options.device_name = TRY(table.text("device_name", "Hearth"));
  if (!plain_topic(options.prefix)) return table.wrong("prefix", "has to be a topic without + and #");
  if (!plain_topic(options.base)) return table.wrong("base", "has to be a topic without + and #");
  if (options.node.empty() ||
      options.node.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") !=
          std::string::npos)
    return table.wrong("node", "has to be letters, digits and -");
  const std::string form = TRY(table.text("form", "component"));
  if (form != "component" && form != "device")
    return table.wrong("form", fmt::format("is \"{}\", has to be \"component\" or \"device\"", form));
  options.device_form = form == "device";
  const SignalNames names(signals);
  const std::vector<ConfigTable> entries = TRY(table.tables("entity"));
  std::set<SignalId> there;
  for (const ConfigTable& entry : entries) {
    options.entities.push_back(TRY(read_entity(entry, names, signals)));
    there.insert(options.entities.back().signal);
    if (const auto& install = options.entities.back().install) there.insert(*install);
    if (const auto& latest = options.entities.back().latest) there.insert(*latest);
  }
  const std::vector<SignalId> listed = TRY(names.listed(table, "signals"));
  for (const SignalId id : listed) {
    if (!there.insert(id).second) continue;
    const Signal& signal = signals[id];
    Entity entity;
    entity.signal = id, entity.id = id_of(signal.name), entity.component = default_component(signal);
    entity.name = signal.label;
    options.entities.push_back(std::move(entity));
  }
  options.confirm = TRY(table.flag("confirm", false));
  if (options.confirm) add_confirmation(options.entities, signals);
  std::map<std::string, SignalId> ids;
  for (const Entity& entity : options.entities)
    if (const auto [found, fresh] = ids.try_emplace(entity.id, entity.signal); !fresh)
      return table.wrong("", fmt::format("{} and {} both become the id {}: rename one, or list it once",
                                         signals[found->second].name, signals[entity.signal].name, entity.id));
  return options;
}

json::object origin() { return {{"name", "hearth"}, {"sw_version", "1"}}; }

class HomeAssistant final : public Adapter {
 public:
  HomeAssistant(Options options, std::span<const Signal> signals)
      : options_(std::move(options)), signals_(signals.begin(), signals.end()), client_(options_.mqtt, counters_) {
    for (size_t i = 0; i < options_.entities.size(); i++) {
      const Entity& entity = options_.entities[i];
      if (entity.role == Role::kValue) by_signal_[entity.signal].push_back(i);
      if (entity.latest) by_signal_[*entity.latest].push_back(i);
      topics_.insert(options_.device_form ? device_topic() : config_topic(entity));
      by_command_[topic(entity, "set")] = i;
    }
  }
  ~HomeAssistant() override { stop(); }

  Result<> start(GatewayInputs inputs) override {
    inputs_ = std::move(inputs);
    return client_.start({.will = [this] { return MqttMessage{status_topic(), "offline", 1, true}; },
                          .connected = [this] { connected(); },
                          .lost = {},
                          .message = [this](std::string_view topic, std::string_view payload,
                                            bool retained) { take(topic, payload, retained); }});
  }
  // A token reaches the broker, so this is asked for by `confirm`. After a connection was made it is said again.
  void show_pending(std::span<const Pending> pending) override {
    if (!options_.confirm) return;
    {
      const std::scoped_lock lock(mutex_);
      pending_.assign(pending.begin(), pending.end());
    }
    say_pending();
  }
  void stop() override { client_.stop(MqttMessage{status_topic(), "offline", 1, true}); }
  AdapterFigures figures() const override { return counters_.figures(); }
  Result<> write(const Write& write) override {
    return fail(Code::kNotFound, "Home Assistant has no device that takes signal {}", write.signal);
  }

  Result<> publish(const Sample& sample) override {
    const auto found = by_signal_.find(sample.signal);
    if (found == by_signal_.end()) return fail(Code::kUnsupported, "not a signal that Home Assistant is shown");
    const bool must_arrive = signals_[sample.signal].record_class == RecordClass::kA;
    const bool believed = sample.quality == Quality::kGood || sample.quality == Quality::kOutOfRange;
    for (const size_t i : found->second) {
      const Entity& entity = options_.entities[i];
      if (believed)
        if (auto sent = client_.publish(
                {topic(entity, "state"), state(entity, sample), must_arrive ? 1 : 0, entity.component != "event"},
                must_arrive);
            !sent)
          return sent;
      if (auto sent = show_available(i, believed); !sent) return sent;
    }
    counters_.sent++;
    return {};
  }

 private:
  std::string status_topic() const { return options_.base + "/status"; }
  std::string topic(const Entity& entity, std::string_view what) const {
    return fmt::format("{}/{}/{}", options_.base, entity.id, what);
  }
  std::string object_id(const Entity& entity) const { return options_.node + "_" + entity.id; }
  std::string config_topic(const Entity& entity) const {
    return fmt::format("{}/{}/{}/config", options_.prefix, entity.component, object_id(entity));
  }
  std::string device_topic() const { return fmt::format("{}/device/{}/config", options_.prefix, options_.node); }

  // Each entity is available if the gateway is and its signal can be believed.
  Result<> show_available(size_t i, bool believed) {
    {
      const std::scoped_lock lock(mutex_);
      const auto found = available_.find(i);
      if (found != available_.end() && found->second == believed) return {};
    }
    if (auto sent =
            client_.publish({topic(options_.entities[i], "available"), believed ? "online" : "offline", 1, true});
        !sent)
      return sent;
    const std::scoped_lock lock(mutex_);
    available_[i] = believed;
    return {};
  }

  std::string state(const Entity& entity, const Sample& sample) {
    if (entity.component == "event") {
      const std::string& type = std::get<std::string>(sample.value);
      const bool known = std::ranges::find(entity.event_types, type) != entity.event_types.end();
      return json::serialize(
          json::object{{"event_type", known ? type : entity.event_types[0]}, {"text", type}, {"time", sample.time_ms}});
    }
    if (entity.component == "update") {
      const std::scoped_lock lock(mutex_);
      json::object& versions = versions_[entity.signal];
      versions[sample.signal == entity.signal ? "installed_version" : "latest_version"] = text_of(sample.value);
      return json::serialize(versions);
    }
    return text_of(sample.value, texts(entity));
  }
  static BoolTexts texts(const Entity& entity) {
    if (entity.lock) return {"LOCKED", "UNLOCKED"};
    return {"ON", "OFF"};
  }

  std::string what_waits(const Entity& entity, const Pending& pending) const {
    const std::string& unit = signals_[pending.signal].unit;
    return fmt::format("set {} to {}{}{}", entity.name, text_of(pending.value, texts(entity)), unit.empty() ? "" : " ",
                       unit);
  }

  // Of several values that wait to be written to one signal the button shows the oldest.
  void say_pending() {
    const std::scoped_lock one_after_another(saying_);
    std::vector<Pending> pending;
    {
      const std::scoped_lock lock(mutex_);
      pending = pending_;
    }
    if (options_.device_form) describe();
    std::string all;
    for (const Entity& entity : options_.entities) {
      if (entity.role != Role::kConfirm) continue;
      const auto first = std::ranges::find(pending, entity.signal, &Pending::signal);
      if (!options_.device_form) describe(entity);
      (void)client_.publish({topic(entity, "available"), first == pending.end() ? "offline" : "online", 1, true});
      if (first != pending.end()) all += (all.empty() ? "" : "; ") + what_waits(entity, *first);
    }
    if (all.size() > kStateMost) {
      all.resize(kStateMost);
      all.resize(all.size() - incomplete_utf8_tail(all));
    }
    for (const Entity& entity : options_.entities)
      if (entity.role == Role::kWaits)
        (void)client_.publish({topic(entity, "state"), all.empty() ? std::string(kNothingWaits) : all, 1, true});
  }

  json::object description(const Entity& entity) const {
    const Signal& signal = signals_[entity.signal];
    json::object object = {{"name", entity.name},
                           {"unique_id", object_id(entity)},
                           {"object_id", object_id(entity)},
                           {"availability", json::array{{{"topic", status_topic()}}}},
                           {"availability_mode", "all"}};
    if (entity.role != Role::kWaits)
      object["availability"].as_array().push_back(json::object{{"topic", topic(entity, "available")}});
    if (entity.role == Role::kConfirm) {
      describe_confirmation(entity, object);
      return object;
    }
    object["state_topic"] = topic(entity, "state");
    if (entity.role == Role::kWaits) return object;
    if (!entity.device_class.empty()) object["device_class"] = entity.device_class;
    if (!entity.icon.empty()) object["icon"] = entity.icon;
    if (entity.component == "sensor" && signal.type == SignalType::kNumber) object["state_class"] = "measurement";
    if (!signal.unit.empty() && (entity.component == "sensor" || entity.component == "number"))
      object["unit_of_measurement"] = signal.unit;
    if (writes(entity)) object["command_topic"] = topic(entity, "set");
    if (entity.component == "number") {
      object["min"] = signal.write->min;
      object["max"] = signal.write->max;
      object["step"] =
          signal.write->step > 0 ? signal.write->step : std::max(1e-3, (signal.write->max - signal.write->min) / 100);
      object["mode"] = "box";
    }
    if (entity.component == "select") object["options"] = json::value_from(signal.write->allowed);
    if (entity.component == "event") object["event_types"] = json::value_from(entity.event_types);
    if (entity.component == "update" && entity.install) {
      object["command_topic"] = topic(entity, "set");
      object["payload_install"] = "install";
    }
    if (entity.component == "update") object["title"] = entity.name;
    return object;
  }

  // Pressing it sends the token, so that what is confirmed is what was shown.
  void describe_confirmation(const Entity& entity, json::object& object) const {
    const std::scoped_lock lock(mutex_);
    const auto first = std::ranges::find(pending_, entity.signal, &Pending::signal);
    const bool waits = first != pending_.end();
    object["name"] = "Confirm: " + (waits ? what_waits(entity, *first) : entity.name);
    object["command_topic"] = topic(entity, "set");
    object["payload_press"] = waits ? std::string_view(first->token) : kNothingWaits;
    object["icon"] = "mdi:check-decagram";
  }

  json::object device() const {
    return {{"identifiers", json::array{options_.node}}, {"name", options_.device_name}, {"manufacturer", "Hearth"}};
  }

  void describe(const Entity& entity) {
    json::object object = description(entity);
    object["device"] = device();
    object["origin"] = origin();
    (void)client_.publish({config_topic(entity), json::serialize(object), 1, true});
  }

  void describe() {
    if (options_.device_form) {
      json::object components;
      for (const Entity& entity : options_.entities) {
        json::object object = description(entity);
        object["platform"] = entity.component;
        components[entity.id] = std::move(object);
      }
      const json::object all = {{"device", device()}, {"origin", origin()}, {"components", components}};
      (void)client_.publish({device_topic(), options_.entities.empty() ? "" : json::serialize(all), 1, true});
      return;
    }
    for (const Entity& entity : options_.entities) describe(entity);
  }

  void connected() {
    {
      const std::scoped_lock lock(mutex_);
      available_.clear();
    }
    // What an earlier profile left at the broker is seen here, and taken back.
    client_.subscribe(options_.prefix + "/+/+/config");
    client_.subscribe(options_.prefix + "/status");
    for (const auto& [topic, i] : by_command_) client_.subscribe(topic);
    (void)client_.publish({status_topic(), "online", 1, true});
    {
      const std::scoped_lock one_after_another(saying_);
      describe();
    }
    if (options_.confirm) say_pending();
  }

  void take(std::string_view topic, std::string_view payload, bool retained) {
    if (topic == options_.prefix + "/status") {
      const std::scoped_lock one_after_another(saying_);
      if (payload == "online") describe();
    } else if (topic.starts_with(options_.prefix) && topic.ends_with("/config")) {
      take_back(topic, payload, retained);
    } else if (const auto found = by_command_.find(std::string(topic)); found != by_command_.end()) {
      take_command(options_.entities[found->second], payload, retained);
    } else {
      counters_.refused++;
    }
  }

  // An entity of ours (by its topic, origin and device) that the profile no longer has: an empty payload removes it.
  void take_back(std::string_view topic, std::string_view payload, bool retained) {
    if (!retained || payload.empty() || topics_.contains(topic)) return;
    const std::string_view rest = topic.substr(options_.prefix.size() + 1);
    const std::string_view id = rest.substr(std::min(rest.find('/'), rest.size() - 1) + 1);
    if (!id.starts_with(options_.node + "_") && id != options_.node + "/config") return;
    const auto parsed = message_json(payload);
    if (!parsed) return;
    const auto says = [&](std::string_view pointer, std::string_view text) {
      const json::value* found = find_pointer(*parsed, pointer);
      return found != nullptr && found->is_string() && found->get_string() == text;
    };
    if (says("/origin/name", "hearth") && says("/device/identifiers/0", options_.node))
      (void)client_.publish({std::string(topic), "", 1, true});
  }

  void take_command(const Entity& entity, std::string_view payload, bool retained) {
    if (entity.role == Role::kConfirm && !retained && payload != kNothingWaits) {
      counters_.received++;
      return inputs_.confirm(payload.substr(0, kStateMost), "home_assistant " + entity.id);
    }
    const bool install = entity.component == "update";
    const SignalId target = install ? *entity.install : entity.signal;
    std::optional<Value> value =
        value_of_text(signals_[target].type, payload, entity.lock ? BoolTexts{"LOCK", "UNLOCK"} : texts(entity));
    if (install) value = payload == "install" ? std::optional(Value(true)) : std::nullopt;
    if (retained || !value || entity.role != Role::kValue) {
      counters_.refused++;
      return;
    }
    counters_.received++;
    inputs_.request({target, *value}, "home_assistant " + entity.id);
  }

  const Options options_;
  const std::vector<Signal> signals_;
  std::map<SignalId, std::vector<size_t>> by_signal_;
  std::map<std::string, size_t> by_command_;
  std::set<std::string, std::less<>> topics_;  // of our descriptions
  GatewayInputs inputs_;
  mutable std::mutex mutex_;
  std::vector<Pending> pending_;               // oldest first
  std::mutex saying_;                          // of what is sent: what is said last is what is true
  std::map<size_t, bool> available_;           // as last said
  std::map<SignalId, json::object> versions_;  // of update entities
  Counters counters_;
  MqttClient client_;
};

Result<std::unique_ptr<Adapter>> make(const ConfigTable& table, std::span<const Signal> signals) {
  Options options = TRY(read_options(table, signals));
  return std::make_unique<HomeAssistant>(std::move(options), signals);
}

// A description at the broker, which anybody may have written; the other payloads are plain texts.
void parse(std::string_view bytes) {
  if (const auto parsed = message_json(bytes)) (void)find_pointer(*parsed, "/device/identifiers/0");
  for (const SignalType type : {SignalType::kBool, SignalType::kNumber, SignalType::kText})
    (void)value_of_text(type, bytes, {"ON", "OFF"});
}

}  // namespace

AdapterKind home_assistant_kind() {
  return {"home_assistant", "signals as entities of Home Assistant, by MQTT discovery", make, parse};
}

}  // namespace hearth::gateway
