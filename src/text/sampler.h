// From logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace hearth {

struct SamplingOptions {
  float temperature = 0.8f;  // 0: always the most likely token
  int top_k = 40;            // 0: all
  float top_p = 0.95f;       // 1: all (Holtzman et al. 2020)
  float min_p = 0.05f;       // 0: all; relative to the most likely token's probability
  float repetition_penalty =
      1.0f;  // 1: none; divides positive logits of tokens seen, multiplies negative ones (CTRL, Keskar et al. 2019)
  float presence_penalty = 0.0f;   // subtracted once for a token seen
  float frequency_penalty = 0.0f;  // subtracted for each time a token was seen
  int penalty_window = 64;         // tokens looked back; -1: all
  std::vector<std::pair<Token, float>> logit_bias = {};
  uint64_t seed = 0;
};
// kInvalidArgument naming the option that makes no sense.
Result<void> check(const SamplingOptions& options);

// The steps in order: bias, penalties, top-k, temperature, top-p, min-p, one draw. Ties go to the lower token id. The
// draw depends on (seed, position) alone, so a sequence that is replayed, batched otherwise or moved draws the same.
// One per sequence; keeps scratch between calls. Not shared between threads.
class Sampler {
 public:
  explicit Sampler(SamplingOptions options) : options_(std::move(options)) {}
  // `logits`: one per token of the vocabulary, changed in place. `history`: the sequence so far. `position`: of the new
  // token. `allowed`: bit t % 64 of word t / 64 for each token that may come, at least one of them; empty: all.
  Token sample(std::span<float> logits, std::span<const Token> history, int64_t position,
               std::span<const uint64_t> allowed = {});
  // How many of the most likely tokens are enough for sample_top(); 0: all logits are needed, for sample().
  [[nodiscard]] int tokens_needed() const;
  // What sample() gives, from the most likely tokens alone: at least tokens_needed() of them (or all there are), best first,
  // ties the lower token first.
  Token sample_top(std::span<const Token> tokens, std::span<const float> logits, int64_t position);
  [[nodiscard]] const SamplingOptions& options() const { return options_; }

 private:
  struct Candidate {
    Token token;
    float logit;
    double weight;
  };
  [[nodiscard]] bool changes_logits() const;
  void penalise(std::span<float> logits, std::span<const Token> history);
  Token draw(int64_t position);
  std::vector<Candidate> candidates_;
  std::vector<std::pair<Token, int>> counts_;
  SamplingOptions options_;
};

// The logarithm of the sum of exp(logits), by which a logit becomes a log probability. NaN counts as nothing.
double log_sum_exp(std::span<const float> logits);

// Uniform in [0, 1), a function of its arguments alone (SplitMix64, Steele et al. 2014).
double uniform_at(uint64_t seed, uint64_t position);

}  // namespace hearth
