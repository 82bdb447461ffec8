#include "gateway/rules.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "gateway/profile.h"

namespace hearth::gateway {
namespace {

using std::chrono::milliseconds;
constexpr double kMost = 1e12;
constexpr size_t kEntriesMax = 4096;  // of each kind

// What entries are read against.
struct Known {
  std::span<const Signal> signals;
  SignalNames names;
};

Result<SignalId> writable(const ConfigTable& table, std::string_view key, const Known& known) {
  const SignalId id = TRY(known.names.named(table, key));
  if (!known.signals[id].write)
    return table.wrong(key, fmt::format("{} is not writable: give it limits of writing", known.signals[id].name));
  if (known.signals[id].write->action_class == ActionClass::kNever)
    return table.wrong(key, fmt::format("{} has class 3: it is never written", known.signals[id].name));
  return id;
}

Result<Condition> condition_of(const ConfigTable& table, std::string_view key, const Known& known) {
  const std::string text = TRY(table.needed_text(key));
  auto condition = parse_condition(text, known.signals);
  if (!condition) return table.wrong(key, condition.error().message);
  return condition;
}

Result<Value> value_of(const ConfigTable& table, std::string_view key, const Signal& signal) {
  const auto value = TRY(table.value(key));
  constexpr std::array<std::string_view, 3> kTypes{"true or false", "a number", "a text"};
  if (!value || !has_type(*value, signal.type))
    return table.wrong(key, fmt::format("{} takes {}", signal.name, kTypes[static_cast<size_t>(signal.type)]));
  return *value;
}

// "07:30-22:00"
std::optional<std::pair<int, int>> read_between(std::string_view text) {
  if (text.size() != 11 || text[2] != ':' || text[5] != '-' || text[8] != ':') return std::nullopt;
  std::array<int, 4> parts{};
  for (size_t i = 0; i < 4; ++i) {
    const char* begin = text.data() + i * 3;
    const auto [end, failed] = std::from_chars(begin, begin + 2, parts[i]);
    if (failed != std::errc() || end != begin + 2 || parts[i] < 0 || parts[i] > (i % 2 == 0 ? 24 : 59))
      return std::nullopt;
  }
  return std::pair(parts[0] * 60 + parts[1], parts[2] * 60 + parts[3]);
}

Result<void> read_watch(const ConfigTable& table, const Known& known, Rules& rules) {
  Watch watch;
  const auto ids = TRY(known.names.listed(table, "signals"));
  watch.deadband = TRY(table.number("deadband", 0, 0, kMost));
  watch.window = TRY(table.duration("window", watch.window));
  watch.outlier = TRY(table.number("outlier", 0, 0, kMost));
  watch.weight = TRY(table.number("weight", watch.weight, 1e-6, 1));
  watch.drift = TRY(table.number("drift", 0, 0, kMost));
  watch.spike = TRY(table.number("spike", 0, 0, kMost));
  watch.unusual = TRY(table.number("unusual", 0, 0, kMost));
  watch.fast = TRY(table.number("fast", 0, 0, kMost));
  watch.silence = TRY(table.duration("silence", {}));
  for (const SignalId id : ids) rules.watches[id] = watch;
  return table.finish();
}

Result<Action> read_action(const ConfigTable& table, const Known& known) {
  Action action;
  action.name = TRY(table.needed_text("name"));
  if (action.name == "none") return table.wrong("name", "'none' is there anyway");
  action.says = TRY(table.text("says", ""));
  if (!table.has("write")) return action;
  action.write = TRY(writable(table, "write", known));
  const Signal& signal = known.signals[*action.write];
  if (table.has("change")) {
    if (signal.type != SignalType::kNumber) return table.wrong("change", "only numbers change by so much");
    action.change = TRY(table.number("change", 0, -kMost, kMost));
    return action;
  }
  action.value = TRY(value_of(table, "value", signal));
  return action;
}

// How the event of a rule is named: `when = "pump1/pressure > 8"`, or `on = "drift"` and `signals`.
Result<void> read_event(const ConfigTable& table, const Known& known, Rule& rule) {
  if (table.has("when")) {
    rule.when = TRY(condition_of(table, "when", known));
    rule.signals = {rule.when->signal};
    rule.lasting = TRY(table.duration("lasting", {}));
    return {};
  }
  const std::string on = TRY(table.needed_text("on"));
  const auto kind = event_kind(on);
  if (!kind || *kind == EventKind::kCondition || *kind == EventKind::kSaid)
    return table.wrong("on",
                       "takes outlier, drift, spike, unusual, fast, silent or back; or say when = \"SIGNAL > 5\"");
  rule.on = *kind;
  rule.signals = TRY(known.names.listed(table, "signals"));
  return {};
}

Result<Rule> read_rule(const ConfigTable& table, const Known& known) {
  Rule rule;
  rule.name = TRY(table.needed_text("name"));
  TRY(read_event(table, known, rule));
  rule.question = TRY(table.text("question", "What should be done?"));
  rule.nothing = TRY(table.text("nothing", "do nothing"));
  rule.deadline = TRY(table.duration("deadline", rule.deadline));
  rule.cool_down = TRY(table.duration("cool_down", {}));
  rule.abstain_below = TRY(table.number("abstain_below", 0, 0, 1));
  rule.facts = TRY(known.names.listed(table, "facts"));
  rule.ask = TRY(table.flag("ask", true));
  for (const ConfigTable& each : TRY(table.tables("action"))) {
    rule.actions.push_back(TRY(read_action(each, known)));
    TRY(each.finish());
  }
  if (rule.actions.empty() || rule.actions.size() > Rule::kActionsMax)
    return table.wrong("action", fmt::format("has {} entries, needs 1 to {}", rule.actions.size(), Rule::kActionsMax));
  rule.otherwise = TRY(table.text("otherwise", "none"));
  if (rule.otherwise != "none" && std::ranges::find(rule.actions, rule.otherwise, &Action::name) == rule.actions.end())
    return table.wrong("otherwise", "has to be the name of one of the rule's actions, or \"none\"");
  TRY(table.finish());
  return rule;
}

Result<GuardRule> read_guard(const ConfigTable& table, const Known& known) {
  GuardRule rule;
  rule.name = TRY(table.needed_text("name"));
  rule.writes = TRY(known.names.listed(table, "writes"));
  if (rule.writes.empty()) return table.wrong("writes", "names the signals that are guarded");
  for (const std::string& text : TRY(table.texts("require"))) {
    auto condition = parse_condition(text, known.signals);
    if (!condition) return table.wrong("require", condition.error().message);
    rule.require.push_back(std::move(*condition));
  }
  rule.quorum = static_cast<size_t>(TRY(table.integer("quorum", 0, 0, static_cast<int64_t>(rule.require.size()))));
  rule.fresh = TRY(known.names.listed(table, "fresh"));
  rule.cool_down = TRY(table.duration("cool_down", {}));
  if (table.has("between")) {
    const std::string between = TRY(table.needed_text("between"));
    rule.between = read_between(between);
    if (!rule.between) return table.wrong("between", "takes two times of day: \"07:30-22:00\"");
  }
  TRY(table.finish());
  return rule;
}

Result<Interlock> read_interlock(const ConfigTable& table, const Known& known) {
  Interlock interlock;
  interlock.name = TRY(table.needed_text("name"));
  interlock.when = TRY(condition_of(table, "when", known));
  interlock.write = TRY(writable(table, "write", known));
  interlock.value = TRY(value_of(table, "value", known.signals[interlock.write]));
  interlock.when_lost = TRY(table.flag("when_lost", false));
  if (const auto judged = judge({.view = {.signals = known.signals, .values = {}, .now = {}},
                                 .rules = {},
                                 .interlocks = {},
                                 .active = {},
                                 .last_writes = {}},
                                interlock);
      judged.verdict != Verdict::kPass)
    return table.wrong("value", judged.why);
  TRY(table.finish());
  return interlock;
}

Result<void> read_options(const ConfigTable& root, Rules& rules) {
  const ConfigTable decisions = TRY(root.table("decisions"));
  rules.model = TRY(decisions.text("model", ""));
  rules.reasons = TRY(decisions.flag("reasons", true));
  rules.confirm_within = TRY(decisions.duration("confirm_within", rules.confirm_within));
  rules.read_back = TRY(decisions.duration("read_back", rules.read_back));
  TRY(decisions.finish());
  const ConfigTable queue = TRY(root.table("queue"));
  constexpr std::array<std::string_view, 3> kKeys{"class_a_bytes", "class_b_bytes", "class_c_bytes"};
  for (size_t i = 0; i < kKeys.size(); ++i)
    rules.queue_bytes[i] = static_cast<uint64_t>(
        TRY(queue.integer(kKeys[i], static_cast<int64_t>(rules.queue_bytes[i]), 1 << 10, int64_t{1} << 40)));
  rules.newest_only = TRY(queue.texts("newest_only"));
  rules.drain_per_second = static_cast<int>(TRY(queue.integer("drain_per_second", 200, 1, 100'000)));
  return queue.finish();
}

// Each of the tables [[key]], read by `read`.
template <typename Entry, typename Read>
Result<void> read_all(const ConfigTable& root, std::string_view key, const Known& known, std::vector<Entry>& entries,
                      const Read& read) {
  const auto tables = TRY(root.tables(key));
  if (tables.size() > kEntriesMax)
    return root.wrong(key, fmt::format("{} entries, {} are allowed", tables.size(), kEntriesMax));
  for (const ConfigTable& table : tables) entries.push_back(TRY(read(table, known)));
  return {};
}

}  // namespace

Result<Rules> read_rules(const ConfigTable& root, std::span<const Signal> signals) {
  const Known known{signals, SignalNames(signals)};
  Rules rules;
  rules.watches.resize(signals.size());
  for (const ConfigTable& table : TRY(root.tables("watch"))) TRY(read_watch(table, known, rules));
  TRY(read_all(root, "rule", known, rules.rules, read_rule));
  TRY(read_all(root, "guard", known, rules.guards, read_guard));
  TRY(read_all(root, "interlock", known, rules.interlocks, read_interlock));
  TRY(read_options(root, rules));
  return rules;
}

}  // namespace hearth::gateway
