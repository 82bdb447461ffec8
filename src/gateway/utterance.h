// What a person said, matched with what can be done: by words, without a model. English.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/signal.h"

namespace hearth::gateway {

struct Meant {
  SignalId signal = 0;
  Value value;
  double score = 0;  // of the words of its name and label that were said, and of what was said that it explains
};

struct Utterance {
  std::vector<Meant> meant;  // best first, at most five
  bool clear = false;        // nothing else comes near the first
  bool wish = true;          // false: a question, or that something is not to be done; nothing is meant then
};

// Writable signals only. "turn on the kitchen light", "set the living room to 21", "lock the front door".
Utterance understand(std::string_view text, std::span<const Signal> signals);
// The first number that was said, as digits.
std::optional<double> number_said(std::string_view text);

}  // namespace hearth::gateway
