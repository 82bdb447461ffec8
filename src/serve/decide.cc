#include "serve/decide.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/limits.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

constexpr size_t kQuestionsMax = 32;

std::optional<double> number_of(std::string_view text) {
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = failed == std::errc() && end == text.data() + text.size();
  return whole ? std::optional(number) : std::nullopt;
}

// An array of labels, or an object of labels with what each means. Levels of a score are the labels' numbers, or count from 1.
void read_criteria(Fields& fields, Question& question) {
  const auto* criteria = fields.find("criteria");
  auto add = [&](std::string_view label, const json::value* meaning) {
    if (label.empty()) return fields.wrong("criteria", "has an empty label");
    if (meaning && !meaning->is_string()) return fields.wrong("criteria", "what a label means has to be a string");
    Option option{.label = std::string(label), .description = meaning ? std::string(meaning->get_string()) : ""};
    option.level = number_of(label).value_or(static_cast<double>(question.options.size() + 1));
    for (const Option& other : question.options)
      if (other.label == option.label) fields.wrong("criteria", "has a label twice");
    question.options.push_back(std::move(option));
  };
  if (const auto* object = criteria ? criteria->if_object() : nullptr)
    for (const auto& member : *object) add(member.key(), &member.value());
  else if (criteria)
    for (const std::string& label : fields.texts("criteria")) add(label, nullptr);
  const size_t count = question.options.size();
  if (count < 2 || count > limits::kCandidates)
    fields.wrong("criteria", fmt::format("need 2 to {} labels, got {}", limits::kCandidates, count));
}

Result<Question> read_question(std::string_view id, const json::value& value) {
  Fields fields(value, fmt::format("questions.{}", id));
  const auto type = fields.word("type", {"choice", "score", "noul"});
  if (!type) fields.wrong("type", "is missing");
  Question question{.id = std::string(id), .type = {}, .instructions = {}, .options = {}};
  question.type = static_cast<QuestionType>(type.value_or(0));
  question.instructions = fields.text("instructions").value_or("");
  if (question.type == QuestionType::kNoul)
    question.options = {{.label = "yes", .description = {}}, {.label = "no", .description = {}}};
  else
    read_criteria(fields, question);
  TRY(fields.check());
  return question;
}

void read_calibration(Fields& body, DecideRequest& request) {
  const auto* calibration = body.object("calibration");
  if (!calibration) return;
  constexpr double kTemperatureLeast = 0.01, kTemperatureMost = 100;
  Fields fields(*calibration, "calibration");
  request.temperature = fields.number("temperature", kTemperatureLeast, kTemperatureMost).value_or(1);
  request.content_free = fields.flag("content_free").value_or(false);
  if (const auto* prior = fields.object("prior")) {
    Fields weights(*prior, "calibration.prior");
    for (const auto& member : *prior) weights.number(member.key(), 1e-6, 1e6);
    if (const auto checked = weights.check(); !checked) fields.wrong(checked.error());
    request.prior = *prior;
  }
  if (const auto checked = fields.check(); !checked) body.wrong(checked.error());
}

}  // namespace

Result<DecideRequest> read_decide(const json::value& value) {
  Fields body(value, "");
  DecideRequest request;
  request.model = body.text("model").value_or("");
  if (const auto* state = body.find("state"))
    request.state = state->is_string() ? std::string(state->get_string()) : json::serialize(*state);
  read_calibration(body, request);
  request.abstain_below = body.number("abstain_below", 0, 1).value_or(0);
  read_scheduling(body, request.options);
  const auto* questions = body.object("questions");
  const size_t count = questions ? questions->size() : 0;
  if (count == 0 || count > kQuestionsMax)
    body.wrong("questions", fmt::format("need 1 to {}, got {}", kQuestionsMax, count));
  TRY(body.check());
  for (const auto& member : *questions) request.questions.push_back(TRY(read_question(member.key(), member.value())));
  return request;
}

json::array decide_messages(const Question& question, std::string_view state) {
  std::string text = question.instructions.empty() ? "Which of these fits?" : question.instructions;
  text += "\nAnswer with exactly one of these and nothing else:";
  for (const Option& option : question.options) {
    text += "\n- " + option.label;
    if (!option.description.empty()) text += ": " + option.description;
  }
  // Last, so that the same question about another state finds what comes before it in the cache.
  if (!state.empty()) text += fmt::format("\n\n{}", state);
  json::array messages;
  messages.emplace_back(json::object{{"role", "user"}, {"content", text}});
  return messages;
}

std::vector<double> probabilities(const DecideRequest& request, const Question& question,
                                  std::span<const double> scores, std::span<const double> without_state) {
  std::vector<double> weights;
  for (size_t i = 0; i < question.options.size(); ++i) {
    double score = scores[i];
    if (!without_state.empty()) score -= without_state[i];
    score /= request.temperature;
    if (const auto* prior = request.prior.if_contains(question.options[i].label))
      score += std::log(prior->to_number<double>());
    weights.push_back(score);
  }
  const double most = std::ranges::max(weights);
  for (double& weight : weights) weight = std::exp(weight - most);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

json::object decision(const DecideRequest& request, const Question& question, std::span<const double> chances) {
  const auto best = static_cast<size_t>(std::ranges::max_element(chances) - chances.begin());
  const bool abstains = chances[best] < request.abstain_below;
  json::object shown;
  double score = 0;
  for (size_t i = 0; i < chances.size(); ++i) {
    shown[question.options[i].label] = chances[i];
    score += chances[i] * question.options[i].level;
  }
  json::object out;
  if (question.type == QuestionType::kNoul) {
    out["noul"] = abstains ? json::value(nullptr) : json::value(chances[0]);
  } else if (question.type == QuestionType::kScore) {
    const auto nearest = std::ranges::min_element(question.options, {},
                                                  [&](const Option& option) { return std::abs(option.level - score); });
    out["score"] = abstains ? json::value(nullptr) : json::value(score);
    out["legend"] = nearest->description.empty() ? nearest->label : nearest->description;
  } else {
    out["choice"] = abstains ? json::value(nullptr) : json::value(question.options[best].label);
  }
  out["probabilities"] = std::move(shown);
  out["confidence"] = chances[best];
  out["abstained"] = abstains;
  return out;
}

}  // namespace hearth::serve
