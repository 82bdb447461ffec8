// From an event to an act: candidates, the choice, the guard, confirmation.
#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <cmath>

#include "gateway/pipeline.h"
#include "gateway/sample.h"
#include "vault/key.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kShownDecisions = 200, kPendingMax = 64;
constexpr int64_t kToActMs = 200;  // of a deadline, left for noticing that it is near and for the act itself

std::string new_token() {
  std::array<std::byte, 16> bytes;
  fill_random(bytes);
  std::string token;
  for (const std::byte byte : bytes) token += fmt::format("{:02x}", std::to_integer<int>(byte));
  return token;
}

}  // namespace

std::string_view name(Outcome outcome) {
  constexpr std::array<std::string_view, 6> kNames{"waiting", "acted", "blocked", "confirm", "abstain", "none"};
  return kNames[static_cast<size_t>(outcome)];
}

std::string Pipeline::fact(SignalId id, const Moment& now) const {
  const Signal& signal = signals_[id];
  const Value* value = view(now).good(id);
  if (value == nullptr) return fmt::format("{} is not known ({}).", signal.name, name_of(values_[id].quality));
  return told(signal, *value);
}

// Inside the limits, and allowed by the guard now; nothing otherwise: what cannot be done is not offered.
std::optional<Offer> Pipeline::offer(const Action& action, const Moment& now) const {
  Offer offer{action.name, action.says, action.write, action.value};
  if (!action.write) return offer;
  const Signal& signal = signals_[*action.write];
  if (action.change) {
    const Value* there = view(now).good(*action.write);
    if (there == nullptr) return std::nullopt;
    const WriteLimits& limits = *signal.write;
    double wanted = std::clamp(std::get<double>(*there) + *action.change, limits.min, limits.max);
    if (limits.step > 0) wanted = limits.min + std::round((wanted - limits.min) / limits.step) * limits.step;
    offer.value = std::clamp(wanted, limits.min, limits.max);
  }
  if (judge(guard_state(now), *action.write, offer.value, true).verdict != Verdict::kPass) return std::nullopt;
  if (offer.says.empty()) offer.says = fmt::format("set {} to {} {}", signal.name, shown(offer.value), signal.unit);
  return offer;
}

void Pipeline::fire(size_t index, const Event& event, const Moment& now, Out& out) {
  const Rule& rule = rules_.rules[index];
  RuleState& state = rule_states_[index];
  if (state.waiting || (state.fired_ever && now.steady_ms - state.fired_ms < rule.cool_down.count())) return;
  state.fired = state.fired_ever = true;
  state.fired_ms = now.steady_ms;
  Decision decision;
  decision.time_ms = now.wall_ms, decision.rule = index, decision.rule_name = rule.name;
  decision.event = rule.when ? fmt::format("{} ({})", fact(event.signal, now), rule.when->text)
                             : fmt::format("{}: {}", name(event.kind), fact(event.signal, now));
  if (event.kind == EventKind::kSilent)
    decision.event = fmt::format("{} has been silent for {:.0f} s.", signals_[event.signal].name, event.value);
  else if (event.kind != EventKind::kBack && event.kind != EventKind::kCondition)
    decision.event += fmt::format(" Usual is {:.6g}.", event.expected);
  decision.facts = decision.event;
  for (const SignalId id : rule.facts)
    if (id != event.signal) decision.facts += " " + fact(id, now);
  for (const Action& action : rule.actions)
    if (auto possible = offer(action, now)) decision.offers.push_back(std::move(*possible));
  decision.otherwise = rule.otherwise, decision.nothing = rule.nothing;
  decision.deadline_ms = now.steady_ms + std::max(rule.deadline.count() / 2, rule.deadline.count() - kToActMs);
  state.waiting = true;
  open(std::move(decision), question_of(rule), rule.ask, now, out);
}

void Pipeline::open(Decision decision, const Question& question, bool ask, const Moment& now, Out& out) {
  decision.id = next_id_++, decision.opened_ms = now.steady_ms;
  decisions_.push_back(std::move(decision));
  if (decisions_.size() > kShownDecisions) decisions_.pop_front();
  Decision& opened = decisions_.back();
  waiting_.push_back(opened.id);
  // With nothing to choose from, or nobody to ask, what the rule says.
  if (!ask || !model_ || opened.offers.empty())
    return settle(opened, opened.otherwise, !ask ? "rule" : !model_ ? "no model" : "nothing possible", now, out);
  ask_model(opened, question, out);
}

void Pipeline::ask_model(const Decision& decision, Question question, Out& out) const {
  question.decision = decision.id;
  question.facts = decision.facts, question.reason = rules_.reasons && decision.said.empty();
  for (const Offer& each : decision.offers) question.options.emplace_back(each.name, each.says);
  question.options.emplace_back("none", decision.nothing);
  out.questions.push_back(std::move(question));
}

void Pipeline::answer(int64_t id, const Result<Choice>& choice, const Moment& now, Out& out) {
  Decision* decision = find(id);
  if (decision == nullptr || decision->outcome != Outcome::kWaiting) {
    metrics_.counter("hearth_gateway_late_answers_total", "Answers of the model that came after the deadline").add();
    return;
  }
  if (!choice) return settle(*decision, decision->otherwise, "no model", now, out);
  decision->confidence = choice->confidence;
  if (choice->label.empty()) return settle(*decision, decision->otherwise, "abstained", now, out);
  if (!decision->said.empty() && choice->label != "none") return thing_chosen(*decision, choice->label, now, out);
  settle(*decision, choice->label, "model", now, out);
}

void Pipeline::settle(Decision& decision, std::string_view label, std::string_view by, const Moment& now, Out& out) {
  std::erase(waiting_, decision.id);
  if (decision.rule < rule_states_.size()) rule_states_[decision.rule].waiting = false;
  decision.by = by, decision.took_ms = now.steady_ms - decision.opened_ms;
  const auto chosen = std::ranges::find(decision.offers, label, &Offer::name);
  decision.chosen = chosen == decision.offers.end() ? "none" : chosen->name;
  if (chosen == decision.offers.end()) {
    decision.outcome = by == "abstained" ? Outcome::kAbstain : Outcome::kNone;
    if (label != "none") decision.why = fmt::format("'{}' is not possible now", plain(label));
  } else if (!chosen->write) {
    decision.outcome = Outcome::kActed;
  } else {
    decision.outcome =
        propose(*chosen->write, chosen->value, decision.id, decision.rule_name, false, decision.why, now, out);
  }
  decision.reason = fmt::format("{} {}", decision.event,
                                chosen == decision.offers.end() ? "Nothing is done." : "So: " + chosen->says + ".");
  count("hearth_gateway_decisions_total", "Decisions by what became of them", "outcome", name(decision.outcome));
  count("hearth_gateway_choices_total", "Decisions by who chose", "by", by);
  note(now, "decision",
       {{"id", decision.id},
        {"rule", decision.rule_name},
        {"facts", decision.facts},
        {"chosen", decision.chosen},
        {"by", decision.by},
        {"confidence", decision.confidence},
        {"outcome", name(decision.outcome)},
        {"why", decision.why}});
}

void Pipeline::reason(int64_t id, std::string_view text, const Moment& now) {
  Decision* decision = find(id);
  if (decision == nullptr) return;
  const bool faithful = is_faithful(text, decision->facts + " " + decision->chosen, names_);
  count("hearth_gateway_reasons_total", "Reasons that a model wrote", "accepted", faithful ? "yes" : "no");
  if (!faithful) return;
  decision->reason = text;
  note(now, "reason", {{"id", id}, {"text", text}});
}

Outcome Pipeline::propose(SignalId signal, const Value& value, int64_t decision, std::string_view source,
                          bool confirmed, std::string& why, const Moment& now, Out& out) {
  const Judgement judged = judge(guard_state(now), signal, value, confirmed);
  why = judged.why;
  if (judged.write) {
    act(*judged.write, decision, source, false, now, out);
    return Outcome::kActed;
  }
  if (judged.verdict == Verdict::kBlock) return Outcome::kBlocked;
  for (const auto& [token, pending] : pending_)
    if (pending.signal == signal && pending.value == value) return Outcome::kConfirm;  // it is being asked for already
  if (pending_.size() >= kPendingMax) {
    why = fmt::format("{} actions wait for confirmation already", pending_.size());
    return Outcome::kBlocked;
  }
  Pending pending{new_token(), decision, std::string(source),
                  signal,      value,    now.steady_ms + rules_.confirm_within.count()};
  pending_.emplace(pending.token, pending);
  ++pending_changes_;
  note(now, "asks_for_confirmation",
       {{"decision", decision},
        {"source", plain(source)},
        {"signal", signals_[signal].name},
        {"value", plain(shown(value))}});
  return Outcome::kConfirm;
}

void Pipeline::request(const Write& wanted, std::string_view source, const Moment& now, Out& out) {
  std::string why;
  const Outcome outcome = propose(wanted.signal, wanted.value, 0, source, false, why, now, out);
  count("hearth_gateway_requests_total", "Writes that were asked for from outside", "outcome", name(outcome));
  const std::string signal = wanted.signal < signals_.size() ? signals_[wanted.signal].name : "";
  note(now, "request",
       {{"source", plain(source)},
        {"signal", signal},
        {"value", plain(shown(wanted.value))},
        {"outcome", name(outcome)},
        {"why", why}});
}

// The token is gone whatever the guard says then: what holds may have changed, and a person looks again.
Result<void> Pipeline::confirm(std::string_view token, std::string_view who, const Moment& now, Out& out) {
  const auto found = pending_.find(token);
  if (found == pending_.end() || now.steady_ms >= found->second.expires_ms) {
    note(now, "confirmation_refused", {{"who", plain(who)}});
    return fail(Code::kNotFound, "no action waits for this token: it was used, is too old, or never was");
  }
  const Pending pending = found->second;
  pending_.erase(found);
  ++pending_changes_;
  std::string why;
  const Outcome outcome = propose(pending.signal, pending.value, pending.decision, pending.source, true, why, now, out);
  note(now, "confirmed",
       {{"who", plain(who)},
        {"decision", pending.decision},
        {"signal", signals_[pending.signal].name},
        {"value", plain(shown(pending.value))},
        {"outcome", name(outcome)},
        {"why", why}});
  if (Decision* decision = find(pending.decision)) decision->outcome = outcome, decision->why = why;
  if (outcome == Outcome::kActed) return {};
  return fail(Code::kInvalidArgument, "confirmed, but the guard forbids it now: {}", why);
}

void Pipeline::act(const Write& write, int64_t decision, std::string_view source, bool urgent, const Moment& now,
                   Out& out) {
  last_writes_[write.signal] = {true, now.steady_ms, write.value};
  const int64_t id = next_id_++;
  running_.emplace(id, Running{write, decision, std::string(source)});
  note(now, "act",
       {{"act", id},
        {"decision", decision},
        {"source", plain(source)},
        {"signal", signals_[write.signal].name},
        {"value", plain(shown(write.value))}});
  out.acts.push_back({id, write, urgent});
}

void Pipeline::done(int64_t id, const Result<>& result, const Moment& now) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const Running running = std::move(found->second);
  running_.erase(found);
  count("hearth_gateway_acts_total", "Values written to devices", "result", result ? "taken" : "failed");
  const std::string problem = result ? "" : result.error().message;
  note(now, result ? "taken" : "failed", {{"act", id}, {"problem", problem}});
  if (!result) {
    if (Decision* decision = find(running.decision)) decision->why = problem;
    return;
  }
  // Where the device tells its values, the new one has to be seen.
  const SignalId signal = running.write.signal;
  std::erase_if(seen_back_, [&](const SeenBack& each) { return each.signal == signal; });
  if (values_[signal].heard_ms > 0)
    seen_back_.push_back({signal, running.write.value, now.steady_ms + rules_.read_back.count(), id});
}

Decision* Pipeline::find(int64_t id) {
  if (id == 0) return nullptr;
  const auto found = std::ranges::find(decisions_.rbegin(), decisions_.rend(), id, &Decision::id);
  return found == decisions_.rend() ? nullptr : &*found;
}

const Decision* Pipeline::decision(int64_t id) const { return const_cast<Pipeline*>(this)->find(id); }

std::vector<Pending> Pipeline::pending() const {
  std::vector<Pending> all;
  for (const auto& [token, pending] : pending_) all.push_back(pending);
  std::ranges::stable_sort(all, {}, &Pending::expires_ms);
  return all;
}

}  // namespace hearth::gateway
