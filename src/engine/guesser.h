// Who guesses what no text foretells: a smaller model (draft_model.h), or the model itself after some of its layers (exit_draft.h).
#pragma once

#include <span>
#include <string>

#include "base/function_ref.h"
#include "engine/speculation.h"
#include "model/sequence.h"
#include "text/sampler.h"

namespace hearth {

class Guesser {
 public:
  virtual ~Guesser() = default;
  [[nodiscard]] virtual DraftSource source() const = 0;
  // Guesses what follows `text`, token by token, up to out.size() or until `keep_on`, asked after each with how likely the guesser
  // holds it to be among the likeliest, says no. Returns how many. `sampler`: the text's, whose draw of a position picks. `sequence`:
  // the target's, in which all of the text but its last token has run; it is left as it was.
  virtual int guess(const std::string& tenant, SequenceId sequence, std::span<const Token> text, Sampler& sampler,
                    std::span<Token> out, FunctionRef<bool(double probability)> keep_on) = 0;
  // What one guess takes here, as measured; 0: nothing yet.
  [[nodiscard]] double guess_seconds() const { return guess_seconds_; }

 protected:
  // One token of a row's likeliest ones, as the sampler picks, and how likely it is among them.
  struct Pick {
    Token token = kNoToken;
    double probability = 0;
  };
  static Pick pick(Sampler& sampler, std::span<Token> tokens, std::span<float> logits, int64_t position);
  // How many of the likeliest tokens pick() is to be given.
  static int looked_at(const Sampler& sampler, int n_vocab);
  void took(double seconds) { guess_seconds_ += (guess_seconds_ == 0 ? 1.0 : 0.1) * (seconds - guess_seconds_); }

 private:
  double guess_seconds_ = 0;
};

}  // namespace hearth
