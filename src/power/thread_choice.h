// How many threads make the most tokens of the processor time that there is. Generating waits for memory: fewer threads run longer, but
// waste less, so that half the time makes more than half the tokens.
#pragma once

#include <cstddef>
#include <vector>

namespace hearth::power {

class ThreadChoice {
 public:
  explicit ThreadChoice(int n_threads) : n_threads_(n_threads), seen_(static_cast<size_t>(n_threads) + 1) {}
  // So many threads generated so many tokens in so much processor time.
  void add(double seconds, int threads, double tokens, double cpu_seconds);
  // For a share of all their time. Now and then one more or less is tried for some seconds. With `use_all` there are enough to use
  // the time up, with some slack for what else runs on the machine.
  int choose(double seconds, double share, bool use_all);

 private:
  struct Seen {
    double tokens_per_cpu_second = 0, at = 0;  // 0: never
  };

  // Tokens per second with a budget of so many threads' time.
  [[nodiscard]] double rate(int threads, double budget) const;

  int n_threads_, chosen_ = 0, tried_ = 0;  // 0: none yet
  double tried_at_ = 0;
  std::vector<Seen> seen_;
};

}  // namespace hearth::power
