// Which tokens may come next, so that an answer stays in a grammar's language.
//
// The grammar's stacks are made deterministic as they are met (grammar_machine.h), and each state's set of tokens is found by
// one walk over tries of the vocabulary and then kept, for all sequences and requests with an equal grammar. Branches whose
// characters all lead to one state, the great majority inside a JSON string, are taken at once. The idea of cached masks is that
// of XGrammar (Dong et al. 2024); here whole stacks are the key, so nothing depends on context.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/grammar.h"
#include "text/tokenizer.h"

namespace hearth {

class MaskCache;
struct MaskVocabulary;

// Of one model; made at its first constrained request (tens of milliseconds and some 10 bytes per byte of vocabulary).
// Any thread may use it. The tokenizer outlives it, and it outlives its constraints.
class TokenMasks {
 public:
  explicit TokenMasks(const Tokenizer& tokenizer);
  ~TokenMasks();
  TokenMasks(const TokenMasks&) = delete;
  TokenMasks& operator=(const TokenMasks&) = delete;

  [[nodiscard]] const Tokenizer& tokenizer() const;

 private:
  friend class Constraint;
  std::unique_ptr<const MaskVocabulary> vocabulary_;
  std::unique_ptr<MaskCache> cache_;
};

// One answer's place in its grammar. A copy goes on by itself. For one thread at a time.
class Constraint {
 public:
  Constraint(std::shared_ptr<const Grammar> grammar, TokenMasks& masks);
  ~Constraint();
  Constraint(const Constraint&);
  Constraint& operator=(const Constraint&);

  // Bit t % 64 of word t / 64: token t may come next. As many bits as the tokenizer has tokens, so logits beyond them are
  // not allowed. Tokens that end an answer are allowed exactly where it is complete. Never empty, unless the vocabulary
  // cannot write what the grammar wants: then the answer ends as if by length. Valid until the next call. Cost: nothing for
  // a state seen before, otherwise a walk over the tokens that begin well.
  [[nodiscard]] std::span<const uint64_t> allowed();
  // Whether one token may come next, without the set of all: cost of its bytes.
  [[nodiscard]] bool accepts(Token token);
  // Goes on by a token; false, and nothing changed, if it may not come.
  bool accept(Token token);
  // The answer so far is a text of the language.
  [[nodiscard]] bool complete() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hearth
