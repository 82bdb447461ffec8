// Asking a model: which of a few actions, and why in a sentence. The model is somewhere behind HTTP (`hearth serve`, POST /v1/decide);
// here is what it is asked and what of its answer is believed.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hearth::gateway {

struct Question {
  int64_t decision = 0;
  std::string model, facts, instructions;
  std::vector<std::pair<std::string, std::string>> options;  // label and meaning; "none" is one of them
  double abstain_below = 0;
  bool reason = true;  // a sentence is wanted afterwards
  // Facts of the same form that speak for nothing in particular. Small models like some answers better than others whatever they are
  // told: how likely each is on the mean of these is taken out of their choice. Empty: only one that tells nothing.
  std::vector<std::string> references;
  std::chrono::milliseconds deadline{0};
};

struct Choice {
  std::string label;  // empty: the model abstains
  double confidence = 0;
};

// One thread; all wait for the server. Errors are those of the network, or kMalformed for an answer of another form or with a label
// that was not asked for.
class Chooser {
 public:
  explicit Chooser(std::string server, std::string key = {}) : server_(std::move(server)), key_(std::move(key)) {}
  [[nodiscard]] Result<Choice> choose(const Question& question);
  // Asks about the next of the references, so that choose() need not; true: about all. The server has the question in its cache then.
  Result<bool> prepare(const Question& question);
  // As the model wrote it: check it with is_faithful().
  [[nodiscard]] Result<std::string> reason(const Question& question, std::string_view label) const;

 private:
  [[nodiscard]] Result<std::string> post(std::string_view path, const std::string& body,
                                         std::chrono::milliseconds patience) const;
  [[nodiscard]] Result<boost::json::value> ask(const Question& question, std::string_view facts,
                                               const boost::json::object& prior) const;
  // What is known of a question with its options.
  struct Prior {
    size_t asked = 0;             // of the references
    std::vector<double> logs;     // of each option, summed over them
    boost::json::object weights;  // at the end: what each option's chance is multiplied by
  };
  Prior& prior_of(const Question& question);

  std::string server_, key_;
  std::map<std::string, Prior> priors_;
};

// True if the text has 1 to 40 words in one line, and each number and each name in it is in the facts. Names are words with a capital
// letter inside a sentence, with a digit, '_' or '/', and every part of a name of `names` (all signals there are). At least one word that
// means something has to be in the facts as well.
bool is_faithful(std::string_view text, std::string_view facts, std::span<const std::string> names);

}  // namespace hearth::gateway
