#include "power/core_choice.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace hearth::power {
namespace {

struct Seen {
  double rate = 0, watts = 0;  // sums
  int looks = 0;
  bool expanded = false;
  [[nodiscard]] Probe mean() const { return {.tokens_per_second = rate / looks, .watts = watts / looks}; }
};

class Search {
 public:
  Search(std::span<const int> cores, const std::function<Probe(const CoreSet&, double)>& probe,
         const CoreChoiceOptions& options)
      : cores_(cores), probe_(probe), options_(options) {}

  CoreChoice run() {
    CoreSet all(cores_.begin(), cores_.end()), fast(cores_.size(), 0);
    fast[0] = cores_[0];
    look(all), look(fast);
    if (cores_.size() > 1) {  // the two fastest classes: where a single fast core is not enough for the memory
      fast[1] = cores_[1];
      look(fast);
    }
    constexpr double kSearch = 0.5;  // of the time; the rest is for second looks
    while (seconds_ + look_seconds_ <= kSearch * options_.seconds_max && expand()) {
    }
    while (seconds_ + look_seconds_ <= options_.seconds_max) look_again();
    const CoreSet best = ranked().front();
    return {best, seen_.at(best).mean(), seconds_, static_cast<int>(seen_.size()), fastest()};
  }

 private:
  void look(const CoreSet& set) {
    const Probe found = probe_(set, options_.probe_seconds);
    Seen& seen = seen_[set];
    seen.rate += found.tokens_per_second, seen.watts += found.watts, ++seen.looks;
    const double took = found.seconds > 0 ? found.seconds : options_.probe_seconds;
    seconds_ += took;
    look_seconds_ = std::max(look_seconds_, took);  // a step of a large model may take longer than a look should
  }
  [[nodiscard]] double fastest() const {
    double best = 0;
    for (const auto& [set, seen] : seen_) best = std::max(best, seen.mean().tokens_per_second);
    return best;
  }
  // Those fast enough (or less so by `more`) by the energy of a token, then the others by speed.
  [[nodiscard]] std::vector<CoreSet> ranked(double more = 0) const {
    constexpr double kNoise = 0.8;  // the rest of the slowdown that is allowed is for what looks do not show
    const double enough = fastest() * (1 - kNoise * options_.slowdown_max - more);
    std::vector<CoreSet> sets;
    for (const auto& [set, seen] : seen_) sets.push_back(set);
    std::ranges::sort(sets, {}, [&](const CoreSet& set) {
      const Probe probe = seen_.at(set).mean();
      const bool slow = probe.tokens_per_second < enough;
      return std::pair(slow, slow ? -probe.tokens_per_second : probe.joules_per_token());
    });
    return sets;
  }
  // Looks at the first new neighbour of the best set that has one; false: all have been seen.
  bool expand() {
    for (const CoreSet& set : ranked()) {
      if (seen_.at(set).expanded) continue;
      for (size_t i = 0; i < set.size(); ++i)
        for (const int step : {-1, 1}) {
          CoreSet next = set;
          next[i] += step;
          const bool valid = next[i] >= 0 && next[i] <= cores_[i] && std::accumulate(next.begin(), next.end(), 0) > 0;
          if (!valid || seen_.contains(next)) continue;
          look(next);
          return true;
        }
      seen_.at(set).expanded = true;
    }
    return false;
  }
  // At the fastest set, on which all depends, or one of the best few, nearly fast enough ones among them: the one looked at least.
  void look_again() {
    constexpr size_t kBest = 4;
    constexpr double kNearly = 0.02;
    std::vector<CoreSet> sets;
    for (const CoreSet& set : ranked(kNearly))
      if (sets.size() < kBest) sets.push_back(set);
    sets.push_back(std::ranges::max_element(seen_, {}, [](const auto& each) {
                     return each.second.mean().tokens_per_second;
                   })->first);
    look(*std::ranges::min_element(sets, {}, [&](const CoreSet& set) { return seen_.at(set).looks; }));
  }

  std::span<const int> cores_;
  const std::function<Probe(const CoreSet&, double)>& probe_;
  const CoreChoiceOptions& options_;
  std::map<CoreSet, Seen> seen_;
  double seconds_ = 0, look_seconds_ = options_.probe_seconds;  // in all; of the longest look
};

}  // namespace

CoreChoice choose_cores(std::span<const int> cores_per_class, const std::function<Probe(const CoreSet&, double)>& probe,
                        const CoreChoiceOptions& options) {
  return Search(cores_per_class, probe, options).run();
}

}  // namespace hearth::power
