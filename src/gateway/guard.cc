#include "gateway/guard.h"

#include <algorithm>
#include <cmath>

#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

using Problem = std::optional<std::string>;

template <typename... Args>
Problem because(fmt::format_string<Args...> text, Args&&... args) {
  return fmt::format(text, std::forward<Args>(args)...);
}

// Type, range, step, allowed texts, class.
Problem outside_limits(const Signal& signal, const Value& value) {
  if (!signal.write) return because("{} is not writable", signal.name);
  const WriteLimits& limits = *signal.write;
  if (limits.action_class == ActionClass::kNever) return because("{} is never written by this system", signal.name);
  if (!has_type(value, signal.type)) return because("{}: a value of another type", signal.name);
  if (const auto* text = std::get_if<std::string>(&value)) {
    const bool allowed = std::ranges::find(limits.allowed, *text) != limits.allowed.end();
    return allowed ? Problem() : because("{}: not one of its {} allowed texts", signal.name, limits.allowed.size());
  }
  const double* number = std::get_if<double>(&value);
  if (number == nullptr) return {};
  if (!std::isfinite(*number)) return because("{}: not a finite number", signal.name);
  if (*number < limits.min || *number > limits.max)
    return because("{}: {} is outside {} to {}", signal.name, shown(value), limits.min, limits.max);
  if (limits.step <= 0) return {};
  const double steps = (*number - limits.min) / limits.step;
  constexpr double kRounding = 1e-6;
  if (std::abs(steps - std::round(steps)) > kRounding)
    return because("{}: {} is not {} plus whole steps of {}", signal.name, shown(value), limits.min, limits.step);
  return {};
}

// How far and how often.
Problem too_fast(const GuardState& state, SignalId id, const Value& value) {
  const Signal& signal = state.view.signals[id];
  const WriteLimits& limits = *signal.write;
  const LastWrite& last = state.last_writes[id];
  const int64_t since = state.view.now.steady_ms - last.steady_ms;
  if (last.any && since < limits.least_interval.count())
    return because("{}: written {} ms ago, {} ms have to lie between", signal.name, since,
                   limits.least_interval.count());
  const double* wanted = std::get_if<double>(&value);
  if (limits.most_change <= 0 || wanted == nullptr) return {};
  const Value* now = state.view.good(id);
  if (now == nullptr && last.any) now = &last.value;
  const double* there = now != nullptr ? std::get_if<double>(now) : nullptr;
  if (there == nullptr)
    return because("{}: its value is not known, so how far it would change is not either", signal.name);
  if (std::abs(*wanted - *there) > limits.most_change * (1 + 1e-9))
    return because("{}: from {} to {} is more than {} at once", signal.name, shown(*now), shown(value),
                   limits.most_change);
  return {};
}

bool within_day(int minute, std::pair<int, int> between) {
  const auto [from, to] = between;
  return from <= to ? minute >= from && minute < to : minute >= from || minute < to;
}

Problem forbidden(const GuardState& state, const GuardRule& rule) {
  for (const SignalId id : rule.fresh)
    if (state.view.good(id) == nullptr)
      return because("{}: {} is {}, not known well enough", rule.name, state.view.signals[id].name,
                     name_of(state.view.values[id].quality));
  size_t held = 0;
  const Condition* missing = nullptr;
  for (const Condition& condition : rule.require) {
    if (condition.holds(state.view).value_or(false))
      ++held;
    else if (missing == nullptr)
      missing = &condition;
  }
  const size_t needed = rule.quorum > 0 ? rule.quorum : rule.require.size();
  if (held < needed)
    return because("{}: {} of {} conditions hold, {} have to; not: {}", rule.name, held, rule.require.size(), needed,
                   missing != nullptr ? missing->text : "");
  if (rule.between && !within_day(state.view.minute_of_day, *rule.between))
    return because("{}: not at this time of day", rule.name);
  for (const SignalId id : rule.writes) {
    const LastWrite& last = state.last_writes[id];
    const int64_t since = state.view.now.steady_ms - last.steady_ms;
    if (last.any && since < rule.cool_down.count())
      return because("{}: {} was written {} s ago, the pause is {} s", rule.name, state.view.signals[id].name,
                     since / 1000, rule.cool_down.count() / 1000);
  }
  return {};
}

Judgement blocked(const std::string& why) { return {Verdict::kBlock, why, std::nullopt}; }

}  // namespace

Judgement judge(const GuardState& state, SignalId signal, const Value& value, bool confirmed) {
  if (signal >= state.view.signals.size()) return blocked("no such signal");
  if (const Problem problem = outside_limits(state.view.signals[signal], value)) return blocked(*problem);
  for (size_t i = 0; i < state.interlocks.size(); ++i)
    if (state.interlocks[i].write == signal && state.active[i] != 0)
      return blocked(fmt::format("interlock {} holds {}", state.interlocks[i].name, state.view.signals[signal].name));
  if (const Problem problem = too_fast(state, signal, value)) return blocked(*problem);
  for (const GuardRule& rule : state.rules) {
    if (std::ranges::find(rule.writes, signal) == rule.writes.end()) continue;
    if (const Problem problem = forbidden(state, rule)) return blocked(*problem);
  }
  if (state.view.signals[signal].write->action_class == ActionClass::kConfirm && !confirmed)
    return {Verdict::kConfirm, "a person has to confirm it", std::nullopt};
  return {Verdict::kPass, {}, Write{signal, value}};
}

Judgement judge(const GuardState& state, const Interlock& interlock) {
  if (const Problem problem = outside_limits(state.view.signals[interlock.write], interlock.value))
    return blocked(*problem);
  return {Verdict::kPass, {}, Write{interlock.write, interlock.value}};
}

}  // namespace hearth::gateway
