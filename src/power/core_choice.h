// Which cores to generate on: those that take the least energy for a token without being much slower than the fastest choice.
// Generating waits for memory, so that a core more often brings heat and no speed (MNN-AECS, arXiv 2506.19884, which searches in the
// same spirit).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "power/sensors.h"

namespace hearth::power {

// How many cores of each class; as long as the classes.
using CoreSet = std::vector<int>;

struct Probe {
  double tokens_per_second = 0, watts = 0;
  double seconds = 0;  // that it took; 0: as long as it should
  [[nodiscard]] double joules_per_token() const { return watts / tokens_per_second; }
};

struct CoreChoiceOptions {
  double slowdown_max = 0.05;    // against the fastest set that was seen
  double seconds_max = 2;        // of probing, but for the first looks, which are always taken
  double probe_seconds = 0.025;  // of one look at a set
};

struct CoreChoice {
  CoreSet set;
  Probe probe;              // of that set, the mean of its looks
  double seconds = 0;       // that probing took
  int looked_at = 0;        // sets
  double fastest_rate = 0;  // tokens per second
};

// `probe` runs a set for so many seconds. Starts at all cores of the fastest class and at all cores, and goes from the best set seen to
// those with a core more or less of a class; the last part of the time looks again at the best ones, for one look is noisy.
CoreChoice choose_cores(std::span<const int> cores_per_class, const std::function<Probe(const CoreSet&, double)>& probe,
                        const CoreChoiceOptions& options = {});

}  // namespace hearth::power
