#include "engine/exit_draft.h"

#include <algorithm>
#include <chrono>

#include "base/exact_math.h"

namespace hearth {
namespace {
constexpr int kLooked = 8;  // tokens a probability is one of, at least
}

int Guesser::looked_at(const Sampler& sampler, int n_vocab) {
  return std::min(std::max(kLooked, sampler.tokens_needed()), n_vocab);
}

Guesser::Pick Guesser::pick(Sampler& sampler, std::span<Token> tokens, std::span<float> logits, int64_t position) {
  Pick picked{.token = sampler.tokens_needed() > 0 ? sampler.sample_top(tokens, logits, position) : tokens.front()};
  double sum = 0, own = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const double weight = exact_exp(static_cast<double>(logits[i]) - static_cast<double>(logits[0]));
    sum += weight;
    if (tokens[i] == picked.token) own = weight;
  }
  picked.probability = own / sum;
  return picked;
}

const ExitHead* ExitDraft::best(const ExitFile& file, const ExitHeads& heads, const Decoder& decoder) {
  const int n_layers = decoder.config().n_layers();
  double all = decoder.read_bytes(n_layers), most = 0;
  for (int i = 0; i < n_layers; ++i) all += decoder.read_bytes(i);
  const ExitHead* best = nullptr;
  for (const ExitMap& map : file.maps) {
    const ExitHead* head = heads.after(map.layers);
    double guess = decoder.read_bytes(n_layers) + static_cast<double>(head->change->bytes());
    for (int i = 0; i < map.layers; ++i) guess += decoder.read_bytes(i);
    // One guess and a step that checks it, whose second row is taken to be free.
    const double rate = (1 + map.same_top) / (1 + guess / all);
    if (rate > most) most = rate, best = head;
  }
  return best;
}

int ExitDraft::guess(const std::string& /*tenant*/, SequenceId sequence, std::span<const Token> text, Sampler& sampler,
                     std::span<Token> out, FunctionRef<bool(double probability)> keep_on) {
  const int length = store_.length(sequence), looked = looked_at(sampler, decoder_.config().n_vocab);
  top_tokens_.resize(static_cast<size_t>(looked)), top_logits_.resize(top_tokens_.size());
  Token token = text.back();
  int guessed = 0;
  for (bool going_on = true; going_on && guessed < static_cast<int>(out.size()); ++guessed) {
    if (!store_.reserve(sequence, guessed + 1)) break;
    const auto begin = std::chrono::steady_clock::now();
    SequenceRows row = store_.rows(sequence, 0, guessed + 1);
    row.count = 1, row.position += guessed;
    Batch batch{.tokens = {&token, 1}, .sequences = {&row, 1}};
    batch.stop_at = &head_;
    decoder_.run(batch, store_);
    const int32_t first = 0;
    decoder_.most_likely({&first, 1}, looked, top_tokens_, top_logits_);
    const Pick picked = pick(sampler, top_tokens_, top_logits_, static_cast<int64_t>(text.size()) + guessed);
    out[static_cast<size_t>(guessed)] = token = picked.token;
    took(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    going_on = keep_on(picked.probability);
  }
  store_.truncate(sequence, length);
  return guessed;
}

}  // namespace hearth
