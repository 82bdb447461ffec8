// Decisions without generation: which of a few answers to a question a model holds for likely, from the log probability of each.
// The shape of requests and answers is that of llama.cpp's /v1/systemone, but any model that generates text will do.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/chat_request.h"

namespace hearth::serve {

enum class QuestionType : uint8_t {
  kChoice,  // one of the labels
  kScore,   // a number on a scale: the mean of its levels, each weighed with its probability
  kNoul,    // how likely the answer is yes, from 0 to 1
};

struct Option {
  std::string label, description;
  double level = 0;  // kScore
};

struct Question {
  std::string id;
  QuestionType type = QuestionType::kChoice;
  std::string instructions;
  std::vector<Option> options;
};

struct DecideRequest {
  std::string model;
  std::string state;  // what there is to know
  std::vector<Question> questions;
  double temperature = 1;     // over 1 flattens the probabilities, below it sharpens them
  bool content_free = false;  // divides by the probabilities that the model gives without any state
  boost::json::object prior;  // label -> how often it is right beforehand; multiplies
  double abstain_below = 0;   // no answer if none is at least so likely
  AnswerOptions options;      // class, priority, deadline
};
Result<DecideRequest> read_decide(const boost::json::value& body);

// What the model is asked: a conversation whose answer is one of the labels. `state` may be empty.
boost::json::array decide_messages(const Question& question, std::string_view state);

// Probabilities of the options from the log probability of each and, if not empty, from that of each without any state.
std::vector<double> probabilities(const DecideRequest& request, const Question& question,
                                  std::span<const double> scores, std::span<const double> without_state);
boost::json::object decision(const DecideRequest& request, const Question& question, std::span<const double> chances);

}  // namespace hearth::serve
