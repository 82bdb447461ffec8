// A request from submission to its end, as the engine sees it.
#pragma once

#include <array>
#include <chrono>

#include "engine/engine.h"
#include "engine/stream_shared.h"
#include "text/token_masks.h"

namespace hearth {

using EngineClock = std::chrono::steady_clock;
inline double seconds(EngineClock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Guessed next tokens of a sequence, in one step.
struct Draft {
  DraftSource source = DraftSource::kText;
  int length = 0;  // tokens; none after one that did not come true
  int rows = 0;    // of them run in this step
  int taken = 0;   // that came true
  std::array<Token, kDraftMax> tokens{};
  std::array<int, kDraftMax> matches{};  // how many tokens before each speak for it
  std::array<double, kDraftMax> chances{};
};

struct Engine::Active {
  Active(Request r, const Tokenizer& tokenizer, std::shared_ptr<Stream::Shared> s)
      : request(std::move(r)),
        shared(std::move(s)),
        sampler(request.sampling),
        detokenizer(tokenizer, request.special),
        tokens(request.prompt) {
    usage.prompt_tokens = static_cast<int>(tokens.size());
    index.append(request.prediction);
  }

  Request request;
  std::shared_ptr<Stream::Shared> shared;
  Sampler sampler;
  Detokenizer detokenizer;
  std::optional<Constraint> constraint;  // of a request with a grammar
  uint64_t arrival = 0;
  SequenceId sequence = -1;    // none before it has a place, nor while it is parked
  std::string precision;       // at which all of its state was computed; empty: at several
  StateCache::Found on_disk;   // of its tokens, as it was
  uint64_t looked_at = 0;      // at so many changes there
  std::vector<Token> tokens;   // prompt and answer
  int told = 0;                // rows of its prompt, if it wants to know how likely each token is
  std::string held;            // text that may be the beginning of a stop text
  std::vector<double> scores;  // of the candidates
  DraftIndex index{1 << 16};   // of what the answer was predicted to be, prompt and answer;
  size_t indexed = 0;          // so many of `tokens` are in it
  Draft draft;
  ExitPolicy exit{};        // under which its tokens leave early
  bool left_early = false;  // the row did whose token is chosen
  Acceptance acceptance;
  Usage usage;
  EngineClock::time_point submitted = EngineClock::now(), admitted{}, first_token{};
  EngineClock::time_point wants_place_since = submitted;
  bool out_of_turn = false;  // it had waited too long, and counts as interactive
  bool in_flight = false;    // it has rows in a step on its way through a chain
  bool finished = false;

  [[nodiscard]] int waiting(const SequenceStore& store) const {
    return static_cast<int>(tokens.size()) - store.length(sequence);
  }
  [[nodiscard]] bool late(EngineClock::time_point now) const {
    return request.deadline_seconds && seconds(now - submitted) > *request.deadline_seconds;
  }
  [[nodiscard]] bool cancelled() const { return shared->cancelled.load(); }
  // How many of the most likely tokens to look at, so that with luck enough of them are allowed.
  [[nodiscard]] int tokens_looked_at() const {
    constexpr int kMoreIfConstrained = 24;
    return sampler.tokens_needed() + (constraint ? kMoreIfConstrained : 0);
  }
  // Whether sampling needs the logits of all tokens.
  [[nodiscard]] bool needs_all_logits() const {
    return request.logprobs >= 0 || !request.candidates.empty() || sampler.tokens_needed() == 0;
  }
};

}  // namespace hearth
