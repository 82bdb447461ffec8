// Some tokens of an answer that keeps to a grammar; ends the program where masks and texts disagree.
#pragma once

#include <cstdlib>
#include <string>

#include "text/test_vocabulary.h"
#include "text/token_masks.h"

namespace hearth {

inline void walk(const Result<Grammar::Shared>& grammar) {
  static const auto tokenizer = Tokenizer::create(byte_bpe_vocabulary());
  static TokenMasks masks(**tokenizer);
  if (!grammar) return;
  Constraint constraint(*grammar, masks);
  std::string text;
  for (size_t step = 0; step < 6; ++step) {
    const auto allowed = constraint.allowed();
    Token chosen = kNoToken;
    for (Token token = 0; token < (*tokenizer)->n_vocab(); ++token) {
      const size_t at = (static_cast<size_t>(token) + step * 97) % static_cast<size_t>((*tokenizer)->n_vocab());
      if ((allowed[at / 64] >> (at % 64) & 1) != 0) chosen = static_cast<Token>(at);
    }
    if (chosen == kNoToken || !constraint.accept(chosen)) std::abort();  // a byte vocabulary can write everything
    if ((*tokenizer)->ends_generation(chosen)) break;
    text += (*tokenizer)->bytes(chosen, false, false);
  }
  if (!(*grammar)->matches_prefix(text)) std::abort();
}

}  // namespace hearth
