// The model guesses for itself: what it would say after some of its layers (model/exits.h). The step that follows runs the guesses
// through all layers and writes over what they left, so a wrong one changes no token.
#pragma once

#include <vector>

#include "engine/guesser.h"
#include "model/decoder.h"
#include "model/exits.h"

namespace hearth {

class ExitDraft final : public Guesser {
 public:
  // The exits' decoder and the store outlive it.
  ExitDraft(Decoder& decoder, SequenceStore& store, const ExitHead& head)
      : decoder_(decoder), store_(store), head_(head) {}
  // The exit that promises most, by how often its likeliest token was the model's and what it reads; null if there are none.
  static const ExitHead* best(const ExitFile& file, const ExitHeads& heads, const Decoder& decoder);

  [[nodiscard]] DraftSource source() const override { return DraftSource::kExit; }
  int guess(const std::string& tenant, SequenceId sequence, std::span<const Token> text, Sampler& sampler,
            std::span<Token> out, FunctionRef<bool(double probability)> keep_on) override;

 private:
  Decoder& decoder_;
  SequenceStore& store_;
  const ExitHead& head_;
  std::vector<Token> top_tokens_;
  std::vector<float> top_logits_;
};

}  // namespace hearth
