// What a person said: the words first, then, if there is one, the model: which thing is meant, and what is to be done with it.
#include <algorithm>
#include <array>
#include <cmath>

#include "gateway/pipeline.h"
#include "gateway/utterance.h"

namespace hearth::gateway {
namespace {

constexpr int64_t kSaidDeadlineMs = 10'000;
// How sure a model has to be of the thing to be asked what to do with it, and of the last thing it is asked before something is done.
// Found on tests/data/usefulness/utterances_tuned.jsonl: a wrong act is worse than asking the person again.
constexpr double kThingSure = 0.5, kActSure = 0.8;
constexpr size_t kThingsMax = 64;  // that a model chooses from

// What is done with a thing by its name's last part.
struct Verbs {
  std::string_view part, on, off;
};
constexpr std::array kVerbs{Verbs{"open", "open it", "close it"}, Verbs{"locked", "lock it", "unlock it"},
                            Verbs{"run", "start it", "stop it"}, Verbs{"", "turn it on", "turn it off"}};

Question said_question(const std::string& model, std::string_view instructions, double abstain_below) {
  Question question;
  question.model = model, question.instructions = instructions;
  question.abstain_below = abstain_below, question.deadline = std::chrono::milliseconds(kSaidDeadlineMs);
  for (const std::string_view said : {"Hello.", "Please do it.", "What a day.", "I am here.", "Change it."})
    question.references.push_back(fmt::format("A person said: \"{}\"", said));
  return question;
}

Offer offer_of(const Signal& signal, SignalId id, std::string_view says, const Value& value) {
  return {fmt::format("set {} to {}", signal.name, plain(shown(value))), std::string(says), id, value};
}

// Everything that may be done with it; `there` is its value if it is known.
std::vector<Offer> offers_of(const Signal& signal, SignalId id, const Value* there, std::optional<double> number) {
  if (signal.type == SignalType::kBool) {
    const auto verbs =
        std::ranges::find_if(kVerbs, [&](const Verbs& each) { return signal.name.ends_with(each.part); });
    return {offer_of(signal, id, verbs->on, true), offer_of(signal, id, verbs->off, false)};
  }
  std::vector<Offer> offers;
  if (signal.type == SignalType::kText) {
    for (const std::string& value : signal.write->allowed) offers.push_back(offer_of(signal, id, value, value));
  } else if (number) {
    offers.push_back(offer_of(signal, id, fmt::format("set it to {}", shown(*number)), *number));
  } else if (there != nullptr) {
    const WriteLimits& limits = *signal.write;
    const double step = std::max({limits.step, 1.0});
    for (const auto& [says, change] : {std::pair("raise it", step), std::pair("lower it", -step)})
      offers.push_back(
          offer_of(signal, id, says, std::clamp(std::get<double>(*there) + change, limits.min, limits.max)));
  }
  return offers;
}

}  // namespace

std::vector<Offer> Pipeline::things() const {
  std::vector<Offer> all;
  for (SignalId id = 0; id < signals_.size() && all.size() < kThingsMax; ++id) {
    const Signal& signal = signals_[id];
    if (signal.write && signal.write->action_class != ActionClass::kNever)
      all.push_back({signal.name, signal.label, id, {}});
  }
  return all;
}

Question Pipeline::question_of_things() const {
  return said_question(rules_.model, "Which thing of the house is this about?", kThingSure);
}

std::string Pipeline::said(std::string_view text, std::string_view source, const Moment& now, Out& out) {
  const Utterance utterance = understand(text, signals_);
  if (!utterance.wish) return "That is nothing to be done.";
  Decision decision;
  decision.time_ms = now.wall_ms, decision.rule = rules_.rules.size(), decision.rule_name = "said by " + plain(source);
  decision.event = decision.facts = fmt::format("A person said: \"{}\".", plain(text));
  decision.otherwise = "none";
  decision.deadline_ms = now.steady_ms + kSaidDeadlineMs;
  Question question;
  if (utterance.clear || !model_) {
    // What is clear needs no model; what is not is never guessed without one.
    for (const Meant& meant : utterance.meant) {
      decision.offers.push_back(
          offer_of(signals_[meant.signal], meant.signal, signals_[meant.signal].label, meant.value));
      if (utterance.clear) break;
    }
    if (utterance.clear) decision.otherwise = decision.offers[0].name;
  } else {
    decision.said = text;
    decision.offers = things(), decision.nothing = "something else";
    question = question_of_things();
  }
  if (decision.offers.empty()) return "Nothing here can do that.";
  open(std::move(decision), question, !utterance.clear, now, out);
  const Decision& opened = decisions_.back();
  if (opened.outcome == Outcome::kWaiting) return "That is not clear; the model is asked.";
  if (opened.outcome == Outcome::kActed) return opened.chosen + ".";
  if (opened.outcome == Outcome::kConfirm) return opened.chosen + ": waits for confirmation.";
  if (opened.outcome == Outcome::kBlocked) return fmt::format("{}: not allowed, {}.", opened.chosen, opened.why);
  return "That could mean several things; say it with the name of one.";
}

void Pipeline::thing_chosen(Decision& decision, std::string_view label, const Moment& now, Out& out) {
  const auto thing = std::ranges::find(decision.offers, label, &Offer::name);
  if (thing == decision.offers.end()) return settle(decision, "none", "model", now, out);
  const SignalId id = *thing->write;
  const Signal& signal = signals_[id];
  const std::string said = std::move(decision.said);
  decision.said.clear();
  decision.nothing = "leave it as it is";
  decision.facts += fmt::format(" It is about: {}.", signal.label);
  decision.offers = offers_of(signal, id, view(now).good(id), number_said(said));
  // Named and told what to do, among other words: the words decide what.
  for (const Meant& meant : understand(said, signals_).meant)
    if (meant.signal == id) decision.offers = {offer_of(signal, id, signal.label, meant.value)};
  if (decision.offers.size() == 1 && decision.confidence < kActSure)
    return settle(decision, "none", "abstained", now, out);
  if (decision.offers.size() == 1) return settle(decision, std::string(decision.offers[0].name), "model", now, out);
  if (decision.offers.empty()) return settle(decision, "none", "model", now, out);
  ask_model(decision, said_question(rules_.model, "What does the person want?", kActSure), out);
}

}  // namespace hearth::gateway
