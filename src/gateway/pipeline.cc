#include "gateway/pipeline.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <ctime>

#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

constexpr int64_t kInterlockAgainMs = 1000;  // until an interlock is sent again that has not come about
constexpr size_t kShownEvents = 500;

}  // namespace

int minute_of_week(int64_t wall_ms) {
  const auto seconds = static_cast<std::time_t>(wall_ms / 1000);
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) return 0;
  return ((local.tm_wday + 6) % 7) * 24 * 60 + local.tm_hour * 60 + local.tm_min;
}

Pipeline::Pipeline(Parts parts)
    : signals_(std::move(parts.signals)),
      rules_(std::move(parts.rules)),
      audit_(*parts.audit),
      metrics_(*parts.metrics),
      local_(std::move(parts.local)),
      model_(parts.model) {
  const size_t count = signals_.size();
  values_.resize(count);
  statistics_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    names_.push_back(signals_[i].name);
    statistics_.emplace_back(rules_.watches[i]);
  }
  silent_.resize(count), away_.resize(count), last_writes_.resize(count);
  rules_of_.resize(count), interlocks_of_.resize(count);
  for (uint32_t i = 0; i < rules_.rules.size(); ++i)
    for (const SignalId id : rules_.rules[i].signals) rules_of_[id].push_back(i);
  for (uint32_t i = 0; i < rules_.interlocks.size(); ++i) interlocks_of_[rules_.interlocks[i].when.signal].push_back(i);
  rule_states_.resize(rules_.rules.size());
  active_.resize(rules_.interlocks.size()), interlock_sent_ms_.resize(rules_.interlocks.size());
  for (size_t i = 0; i < samples_by_quality_.size(); ++i)
    samples_by_quality_[i] =
        &metrics_.counter("hearth_gateway_samples_total", "Values from devices, by what is thought of them",
                          {{"quality", name_of(static_cast<Quality>(i))}});
}

View Pipeline::view(const Moment& now) const {
  return {.signals = signals_, .values = values_, .now = now, .minute_of_day = local_week_minute_ % (24 * 60)};
}

GuardState Pipeline::guard_state(const Moment& now) const {
  return {view(now), rules_.guards, rules_.interlocks, active_, last_writes_};
}

void Pipeline::sample(const Sample& given, const Moment& now, Out& out) {
  if (given.signal >= signals_.size()) return;
  const SignalId id = given.signal;
  Sample sample = make_sample(signals_[id], id, given.value, given.time_ms, now.wall_ms);
  if (sample.quality == Quality::kGood) sample.quality = given.quality;
  samples_by_quality_[static_cast<size_t>(sample.quality)]->add();
  if (now.wall_ms / 60'000 != local_minute_) {
    local_minute_ = now.wall_ms / 60'000;
    local_week_minute_ = local_(now.wall_ms);
  }
  Current& current = values_[id];
  // What a device kept during an outage is history: it is passed on, and does not replace what is newer.
  if (sample.quality == Quality::kStale && sample.time_ms < current.time_ms)
    return out.publish.push_back(std::move(sample));
  const bool changed = sample.quality != current.quality || sample.value != current.value;
  current = {sample.value, sample.quality, sample.time_ms, now.steady_ms};
  away_[id] = 0;
  found_.clear();
  if (silent_[id] != 0) {
    silent_[id] = 0;
    found_.push_back({EventKind::kBack, id, sample.time_ms, 0, 0, 0});
  }
  bool news = changed;
  if (sample.quality == Quality::kGood) {
    check_interlocks(id, now, out);
    std::erase_if(seen_back_, [&](const SeenBack& each) {
      if (each.signal != id || each.value != sample.value) return false;
      note(now, "seen", {{"act", each.act}, {"signal", signals_[id].name}, {"value", shown(sample.value)}});
      return true;
    });
    if (const double* number = std::get_if<double>(&sample.value))
      news = statistics_[id].add(id, *number, sample.time_ms, local_week_minute_ / 60, found_) || news;
    if (rules_.watches[id].deadband > 0 && std::holds_alternative<double>(sample.value)) news = news && changed;
  }
  if (news) out.publish.push_back(std::move(sample));
  for (const uint32_t rule : rules_of_[id])
    if (rules_.rules[rule].when) check_condition(rule, now, out);
  const std::vector<Event> found = std::move(found_);
  for (const Event& event : found) happened(event, now, out);
}

void Pipeline::away(std::span<const SignalId> signals, bool away, const Moment& now, Out& out) {
  for (const SignalId id : signals) {
    if (id >= signals_.size() || away_[id] == uint8_t{away}) continue;
    away_[id] = uint8_t{away};
    if (!away) continue;
    if (values_[id].quality == Quality::kGood) values_[id].quality = Quality::kStale;
    out.publish.push_back({id, values_[id].value, now.wall_ms, Quality::kStale});
    check_interlocks(id, now, out);
    check_silence(id, now, out);
  }
}

void Pipeline::check_interlocks(SignalId signal, const Moment& now, Out& out) {
  for (const uint32_t index : interlocks_of_[signal]) check_interlock(index, now, out);
}

// What cannot be judged changes nothing: an interlock that holds goes on holding.
void Pipeline::check_interlock(size_t index, const Moment& now, Out& out) {
  const Interlock& interlock = rules_.interlocks[index];
  std::optional<bool> holds = interlock.when.holds(view(now));
  if (!holds && interlock.when_lost && values_[interlock.when.signal].heard_ms > 0) holds = true;
  const bool was = active_[index] != 0;
  if (holds && *holds != was) {
    active_[index] = uint8_t{*holds};
    interlock_sent_ms_[index] = 0;
    note(now, *holds ? "interlock" : "interlock_over",
         {{"name", interlock.name},
          {"when", interlock.when.text},
          {"signal", signals_[interlock.write].name},
          {"value", shown(interlock.value)}});
    if (*holds) count("hearth_gateway_interlocks_total", "Interlocks that fired", "name", interlock.name);
  }
  if (active_[index] == 0) return;
  const Value* there = view(now).good(interlock.write);
  const bool came_about = last_writes_[interlock.write].any && there != nullptr && *there == interlock.value;
  const int64_t sent = interlock_sent_ms_[index];
  if (sent != 0 && (came_about || now.steady_ms - sent < kInterlockAgainMs)) return;
  const Judgement judged = judge(guard_state(now), interlock);
  if (!judged.write) return;
  interlock_sent_ms_[index] = now.steady_ms;
  act(*judged.write, 0, "interlock " + interlock.name, true, now, out);
}

void Pipeline::check_condition(size_t index, const Moment& now, Out& out) {
  const Rule& rule = rules_.rules[index];
  RuleState& state = rule_states_[index];
  const auto holds = rule.when->holds(view(now));
  if (!holds) return;
  if (!*holds) {
    state.holds_since.reset();
    state.fired = false;
    return;
  }
  if (!state.holds_since) state.holds_since = now.steady_ms;
  if (state.fired || now.steady_ms - *state.holds_since < rule.lasting.count()) return;
  const Current& current = values_[rule.when->signal];
  const double* number = std::get_if<double>(&current.value);
  const double* limit = std::get_if<double>(&rule.when->value);
  fire(index, {EventKind::kCondition, rule.when->signal, current.time_ms, number ? *number : 0, limit ? *limit : 0, 0},
       now, out);
}

void Pipeline::check_silence(SignalId id, const Moment& now, Out& out) {
  const Current& current = values_[id];
  const int64_t most = rules_.watches[id].silence.count();
  if (most <= 0 || silent_[id] != 0 || current.heard_ms == 0) return;
  if (away_[id] == 0 && now.steady_ms - current.heard_ms <= most) return;
  silent_[id] = 1;
  const auto seconds = static_cast<double>(now.steady_ms - current.heard_ms) / 1000;
  happened({EventKind::kSilent, id, now.wall_ms, seconds, static_cast<double>(most) / 1000, 0}, now, out);
}

void Pipeline::happened(const Event& event, const Moment& now, Out& out) {
  count("hearth_gateway_events_total", "What happened to signals", "kind", name(event.kind));
  const Signal& signal = signals_[event.signal];
  std::string text = fmt::format("{}: {}", name(event.kind), signal.name);
  if (event.kind == EventKind::kSilent)
    text += fmt::format(", nothing heard for {:.0f} s", event.value);
  else if (event.kind != EventKind::kBack)
    text += fmt::format(" is {:.6g} {}, usual {:.6g}", event.value, signal.unit, event.expected);
  events_.push_back({event, std::move(text)});
  if (events_.size() > kShownEvents) events_.pop_front();
  for (const uint32_t rule : rules_of_[event.signal])
    if (!rules_.rules[rule].when && rules_.rules[rule].on == event.kind) fire(rule, event, now, out);
}

void Pipeline::tick(const Moment& now, Out& out) {
  for (SignalId id = 0; id < signals_.size(); ++id) {
    Current& current = values_[id];
    const int64_t most = signals_[id].max_age.count();
    if (most > 0 && current.quality == Quality::kGood && now.steady_ms - current.heard_ms > most) {
      current.quality = Quality::kStale;
      out.publish.push_back({id, current.value, current.time_ms, Quality::kStale});
    }
    check_silence(id, now, out);
  }
  for (size_t i = 0; i < rules_.interlocks.size(); ++i) check_interlock(i, now, out);
  for (size_t i = 0; i < rules_.rules.size(); ++i)
    if (rules_.rules[i].when) check_condition(i, now, out);
  const std::vector<int64_t> waiting = waiting_;
  for (const int64_t id : waiting) {
    Decision* decision = find(id);
    if (decision != nullptr && now.steady_ms >= decision->deadline_ms)
      settle(*decision, decision->otherwise, "late", now, out);
  }
  pending_changes_ += std::erase_if(pending_, [&](const auto& each) {
    const bool over = now.steady_ms >= each.second.expires_ms;
    if (over)
      note(now, "expired", {{"signal", signals_[each.second.signal].name}, {"value", shown(each.second.value)}});
    return over;
  });
  std::erase_if(seen_back_, [&](const SeenBack& each) {
    const bool over = now.steady_ms >= each.until_ms;
    if (over) {
      note(now, "not_seen", {{"act", each.act}, {"signal", signals_[each.signal].name}, {"value", shown(each.value)}});
      count("hearth_gateway_not_seen_total", "Values that were written and not seen", "signal",
            signals_[each.signal].name);
    }
    return over;
  });
}

void Pipeline::take_over(const Pipeline& before) {
  for (SignalId id = 0; id < signals_.size(); ++id) {
    const auto old = find_signal(before.signals_, signals_[id].name);
    if (!old || before.signals_[*old].type != signals_[id].type) continue;
    values_[id] = before.values_[*old];
    last_writes_[id] = before.last_writes_[*old];
  }
  next_id_ = before.next_id_;
}

void Pipeline::note(const Moment& now, std::string_view kind, json::object what) {
  audit_.add(now.wall_ms, kind, json::serialize(what));
}

void Pipeline::count(std::string_view metric, std::string_view help, std::string_view label, std::string_view value) {
  metrics_.counter(metric, help, {{label, value}}).add();
}

}  // namespace hearth::gateway
