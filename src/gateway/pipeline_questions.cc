// What a model is asked: facts in words, and facts that speak for nothing, against which its choice is weighed.
#include <algorithm>
#include <cmath>

#include "gateway/pipeline.h"

namespace hearth::gateway {
namespace {

// Comparing numbers is no work for a small model.
std::string_view normality(const Signal& signal, const Value& value) {
  const double* number = std::get_if<double>(&value);
  if (number == nullptr || (std::isinf(signal.normal_min) && std::isinf(signal.normal_max))) return "";
  return *number < signal.normal_min ? ", low" : *number > signal.normal_max ? ", high" : ", normal";
}

// A value that is normal, and those that are not: below, above; the other one of a bool.
std::vector<Value> kinds_of_value(const Signal& signal) {
  if (signal.type == SignalType::kBool) return {true, false};
  if (signal.type == SignalType::kText) return {};
  const bool low = std::isfinite(signal.normal_min), high = std::isfinite(signal.normal_max);
  const double size = low && high ? signal.normal_max - signal.normal_min
                                  : std::max(1.0, std::abs(low    ? signal.normal_min
                                                           : high ? signal.normal_max
                                                                  : 1.0));
  const auto rounded = [&](double value) { return std::clamp(std::round(10 * value) / 10, signal.min, signal.max); };
  if (!low && !high) {
    const bool bounded = std::isfinite(signal.min) && std::isfinite(signal.max);
    return {rounded(bounded ? (signal.min + signal.max) / 2 : 0)};
  }
  std::vector<Value> values{rounded(low ? signal.normal_min + size / 2 : signal.normal_max - size / 2)};
  if (low && rounded(signal.normal_min - size / 3) < signal.normal_min)
    values.emplace_back(rounded(signal.normal_min - size / 3));
  if (high && rounded(signal.normal_max + size / 3) > signal.normal_max)
    values.emplace_back(rounded(signal.normal_max + size / 3));
  return values;
}

}  // namespace

// Texts of devices are shown short and without anything that could end a line.
std::string plain(std::string_view text) {
  constexpr size_t kMost = 64;
  std::string out;
  for (const char c : text.substr(0, kMost)) out += static_cast<unsigned char>(c) < ' ' || c == '"' ? ' ' : c;
  return out;
}

std::string told(const Signal& signal, const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value))
    return fmt::format("{} says \"{}\".", signal.name, plain(*text));
  return fmt::format("{} is {}{}{}{}.", signal.name, shown(value), signal.unit.empty() ? "" : " ", signal.unit,
                     normality(signal, value));
}

// The event with all else normal, and with each of the facts not normal in turn.
std::vector<std::string> Pipeline::references_of(const Rule& rule) const {
  const double* limit = rule.when ? std::get_if<double>(&rule.when->value) : nullptr;
  if (limit == nullptr) return {};
  const std::string event = fmt::format("{} ({})", told(signals_[rule.when->signal], *limit), rule.when->text);
  std::vector<std::string> normal{event}, all;
  for (const SignalId id : rule.facts) {
    const auto values = kinds_of_value(signals_[id]);
    if (id != rule.when->signal && !values.empty()) normal.push_back(told(signals_[id], values[0]));
  }
  all.push_back(fmt::format("{}", fmt::join(normal, " ")));
  size_t place = 1;
  for (const SignalId id : rule.facts) {
    const auto values = kinds_of_value(signals_[id]);
    if (id == rule.when->signal || values.empty()) continue;
    for (size_t i = 1; i < values.size(); ++i) {
      std::vector<std::string> facts = normal;
      facts[place] = told(signals_[id], values[i]);
      all.push_back(fmt::format("{}", fmt::join(facts, " ")));
    }
    ++place;
  }
  return all;
}

Question Pipeline::question_of(const Rule& rule) const {
  Question question;
  question.model = rules_.model, question.instructions = rule.question;
  question.abstain_below = rule.abstain_below, question.deadline = rule.deadline;
  question.references = references_of(rule);
  return question;
}

std::deque<Question> Pipeline::questions_ahead() const {
  std::deque<Question> all;
  for (const Rule& rule : rules_.rules) {
    if (!rule.ask) continue;
    Question& question = all.emplace_back(question_of(rule));
    for (const Action& action : rule.actions) question.options.emplace_back(action.name, action.says);
    question.options.emplace_back("none", rule.nothing);
  }
  if (const std::vector<Offer> offers = things(); !offers.empty()) {
    Question& question = all.emplace_back(question_of_things());
    for (const Offer& each : offers) question.options.emplace_back(each.name, each.says);
    question.options.emplace_back("none", "something else");
  }
  return all;
}

}  // namespace hearth::gateway
