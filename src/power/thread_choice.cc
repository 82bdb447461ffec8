#include "power/thread_choice.h"

#include <algorithm>
#include <cmath>

namespace hearth::power {

void ThreadChoice::add(double seconds, int threads, double tokens, double cpu_seconds) {
  constexpr double kTokensMin = 3, kNew = 0.3;
  if (tokens < kTokensMin || cpu_seconds <= 0 || threads < 1 || threads > n_threads_) return;
  Seen& seen = seen_[static_cast<size_t>(threads)];
  const double found = tokens / cpu_seconds;
  seen.tokens_per_cpu_second += (seen.at == 0 ? 1 : kNew) * (found - seen.tokens_per_cpu_second);
  seen.at = seconds;
}

double ThreadChoice::rate(int threads, double budget) const {
  return seen_[static_cast<size_t>(threads)].tokens_per_cpu_second * std::min<double>(threads, budget);
}

int ThreadChoice::choose(double seconds, double share, bool use_all) {
  constexpr double kUnlimited = 0.95, kBetter = 1.03, kTrySeconds = 4, kStaleSeconds = 120, kSlack = 1.1;
  const double budget = share * n_threads_;
  const int least = use_all ? std::clamp(static_cast<int>(std::ceil(kSlack * budget)), 1, n_threads_) : 1;
  if (share >= kUnlimited || n_threads_ == 1) {
    chosen_ = tried_ = 0;
    return n_threads_;
  }
  if (tried_ > 0 && seconds - tried_at_ < kTrySeconds) return tried_;
  tried_ = 0;
  if (chosen_ == 0) chosen_ = n_threads_;
  chosen_ = std::max(chosen_, least);
  for (int n = least; n <= n_threads_; ++n)
    if (rate(n, budget) > rate(chosen_, budget) * kBetter) chosen_ = n;
  const auto stale = [&](int n) {
    const Seen& seen = seen_[static_cast<size_t>(n)];
    return seen.at == 0 || seconds - seen.at > kStaleSeconds;
  };
  if (stale(chosen_)) return chosen_;  // it has to be known itself, before it is compared
  for (const int n : {chosen_ - 1, chosen_ + 1})
    if (n >= least && n <= n_threads_ && stale(n) && (n < chosen_ || chosen_ < budget)) {
      tried_ = n, tried_at_ = seconds;
      return tried_;
    }
  return chosen_;
}

}  // namespace hearth::power
