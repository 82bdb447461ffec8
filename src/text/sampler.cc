#include "text/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/exact_math.h"

namespace hearth {
namespace {

uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Result<void> in_range(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return {};  // false for NaN
  return fail(Code::kInvalidArgument, "{} is {}; it must be {} to {}", name, value, low, high);
}

}  // namespace

double uniform_at(uint64_t seed, uint64_t position) {
  return static_cast<double>(mix(mix(seed) ^ position) >> 11) * 0x1p-53;
}

double log_sum_exp(std::span<const float> logits) {
  float top = -std::numeric_limits<float>::infinity();
  for (const float logit : logits) top = std::max(top, logit);  // NaN never is greater
  double sum = 0.0;
  for (const float logit : logits)
    if (logit == logit) sum += exact_exp(static_cast<double>(logit) - static_cast<double>(top));
  return static_cast<double>(top) + std::log(sum);
}

Result<void> check(const SamplingOptions& options) {
  TRY(in_range("temperature", options.temperature, 0, 100));
  TRY(in_range("top_k", options.top_k, 0, INT32_MAX));
  TRY(in_range("top_p", options.top_p, 0, 1));
  TRY(in_range("min_p", options.min_p, 0, 1));
  TRY(in_range("repetition_penalty", options.repetition_penalty, 0.01, 100));
  TRY(in_range("presence_penalty", options.presence_penalty, -100, 100));
  TRY(in_range("frequency_penalty", options.frequency_penalty, -100, 100));
  TRY(in_range("penalty_window", options.penalty_window, -1, INT32_MAX));
  for (const auto& [token, bias] : options.logit_bias) {
    if (token < 0) return fail(Code::kInvalidArgument, "logit_bias names token {}", token);
    TRY(in_range("logit_bias", bias, -1e9, 1e9));
  }
  return {};
}

bool Sampler::changes_logits() const {
  return options_.repetition_penalty != 1.0f || options_.presence_penalty != 0.0f ||
         options_.frequency_penalty != 0.0f || !options_.logit_bias.empty();
}

int Sampler::tokens_needed() const {
  constexpr int kFew = 256;  // beyond that, finding them costs more than it saves
  if (changes_logits()) return 0;
  if (options_.temperature == 0.0f) return 1;
  return options_.top_k <= kFew ? options_.top_k : 0;
}

void Sampler::penalise(std::span<float> logits, std::span<const Token> history) {
  if (!changes_logits()) return;
  const auto n = static_cast<Token>(logits.size());
  for (const auto& [token, bias] : options_.logit_bias)
    if (token < n) logits[static_cast<size_t>(token)] += bias;
  if (options_.penalty_window >= 0 && history.size() > static_cast<size_t>(options_.penalty_window))
    history = history.last(static_cast<size_t>(options_.penalty_window));
  counts_.clear();
  for (const Token token : history)
    if (token >= 0 && token < n) counts_.emplace_back(token, 1);
  std::ranges::sort(counts_);
  size_t kept = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (kept > 0 && counts_[kept - 1].first == counts_[i].first)
      ++counts_[kept - 1].second;
    else
      counts_[kept++] = counts_[i];
  }
  counts_.resize(kept);
  for (const auto& [token, count] : counts_) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0.0f ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    logit -= options_.presence_penalty + options_.frequency_penalty * static_cast<float>(count);
  }
}

Token Sampler::sample(std::span<float> logits, std::span<const Token> history, int64_t position,
                      std::span<const uint64_t> allowed) {
  penalise(logits, history);
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  candidates_.clear();
  const bool one = options_.temperature == 0.0f || options_.top_k == 1;
  const auto consider = [&](size_t token) {
    const float logit = logits[token] == logits[token] ? logits[token]  // NaN has no place in an order
                                                       : -std::numeric_limits<float>::infinity();
    const Candidate candidate{static_cast<Token>(token), logit, 0.0};
    if (!one || candidates_.empty())
      candidates_.push_back(candidate);
    else if (better(candidate, candidates_.front()))
      candidates_.front() = candidate;
  };
  if (allowed.empty())
    for (size_t token = 0; token < logits.size(); ++token) consider(token);
  for (size_t word = 0; word < allowed.size(); ++word)
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const size_t token = word * 64 + static_cast<size_t>(std::countr_zero(bits));
      if (token < logits.size()) consider(token);
    }
  if (one) return candidates_.front().token;
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    std::ranges::nth_element(candidates_, candidates_.begin() + options_.top_k, better);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  std::ranges::sort(candidates_, better);
  return draw(position);
}

Token Sampler::sample_top(std::span<const Token> tokens, std::span<const float> logits, int64_t position) {
  if (tokens_needed() == 1) return tokens.front();
  const size_t n = std::min(tokens.size(), static_cast<size_t>(options_.top_k));
  candidates_.clear();
  for (size_t i = 0; i < n; ++i) candidates_.push_back({tokens[i], logits[i], 0.0});
  return draw(position);
}

// One of the candidates, which come best first.
Token Sampler::draw(int64_t position) {
  const double top = candidates_.front().logit;
  double total = 0.0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = exact_exp((candidate.logit - top) / static_cast<double>(options_.temperature));
    total += candidate.weight;
  }
  size_t kept = 0;
  double sum = 0.0;
  while (kept < candidates_.size()) {
    const bool enough = kept > 0 && (sum >= static_cast<double>(options_.top_p) * total ||
                                     candidates_[kept].weight < static_cast<double>(options_.min_p));
    if (enough) break;
    sum += candidates_[kept++].weight;
  }
  double left = uniform_at(options_.seed, static_cast<uint64_t>(position)) * sum;
  for (size_t i = 0; i < kept; ++i) {
    left -= candidates_[i].weight;
    if (left < 0.0) return candidates_[i].token;
  }
  return candidates_[kept - 1].token;
}

}  // namespace hearth
