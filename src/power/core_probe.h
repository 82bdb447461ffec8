// Decides on which cores of this machine to generate, by running real steps on some of them.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "power/sensors.h"

namespace hearth::power {

// Kinds of cores that a choice can be made of, fastest first: of those in `allowed`, a hardware thread for each core; kinds that are
// alike but for a few percent are one. Empty if the system does not tell.
std::vector<CoreClass> choosable_cores(std::span<const int> allowed, const std::filesystem::path& root = "/");

// Generates on `cpus` for about so many seconds: tokens.
using Generate = std::function<double(std::span<const int> cpus, double seconds)>;

struct CoreDecision {
  std::vector<int> cpus;
  bool measured = false;  // the energy; else estimated
  std::string text;       // for people, why
};
// In about two seconds. Energy is what the packages' counters tell during a look; a battery's gauge moves too slowly for that. Where they
// cannot be read it is estimated: a core of the fastest kind takes `watts_per_core`, a slower one less.
CoreDecision decide_cores(std::span<const CoreClass> classes, Sensors& sensors, double watts_per_core,
                          const Generate& generate);

}  // namespace hearth::power
