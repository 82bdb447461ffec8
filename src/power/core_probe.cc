#include "power/core_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>

#include "power/core_choice.h"

namespace hearth::power {
namespace {

std::vector<int> cpus_of(std::span<const CoreClass> classes, const CoreSet& set) {
  std::vector<int> cpus;
  for (size_t i = 0; i < set.size(); ++i)
    cpus.insert(cpus.end(), classes[i].cpus.begin(), classes[i].cpus.begin() + set[i]);
  std::ranges::sort(cpus);
  return cpus;
}

// A core half as fast takes about a third: it runs at a lower voltage. The rest of the machine takes something, too, or slow would
// always be thrifty.
double estimated_watts(std::span<const CoreClass> classes, const CoreSet& set, double watts_per_core) {
  constexpr double kRest = 0.5, kExponent = 1.5;
  double watts = kRest * watts_per_core;
  for (size_t i = 0; i < set.size(); ++i) watts += set[i] * watts_per_core * std::pow(classes[i].capacity, kExponent);
  return watts;
}

// That the packages used between two samples; none: nobody can tell.
std::optional<double> joules_between(const Sample& before, const Sample& after) {
  if (!before.joules.there() || !after.joules.there() || !after.joules.problem.empty()) return std::nullopt;
  const double joules = after.joules.value - before.joules.value;
  return joules > 0 ? std::optional(joules) : std::nullopt;
}

// The first hardware thread of the core that it belongs to ("0,4" and "0-1" begin with it); itself if the system does not tell.
int first_sibling(int cpu, const std::filesystem::path& root) {
  std::ifstream file(root / fmt::format("sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
  int first = cpu;
  return file >> first && first >= 0 ? first : cpu;
}

}  // namespace

std::vector<CoreClass> choosable_cores(std::span<const int> allowed, const std::filesystem::path& root) {
  constexpr double kAlike = 0.9;  // favoured cores of one kind differ by some percent
  std::vector<CoreClass> classes;
  for (CoreClass& found : core_classes(root)) {
    std::erase_if(found.cpus, [&](int cpu) {
      return std::ranges::find(allowed, cpu) == allowed.end() || first_sibling(cpu, root) != cpu;
    });
    if (found.cpus.empty()) continue;
    if (!classes.empty() && found.capacity >= kAlike * classes.back().capacity)
      classes.back().cpus.insert(classes.back().cpus.end(), found.cpus.begin(), found.cpus.end());
    else
      classes.push_back(std::move(found));
  }
  return classes;
}

CoreDecision decide_cores(std::span<const CoreClass> classes, Sensors& sensors, double watts_per_core,
                          const Generate& generate) {
  std::vector<int> counts;
  for (const CoreClass& each : classes) counts.push_back(static_cast<int>(each.cpus.size()));
  bool measured = sensors.read().joules.there();
  double spent = 0;
  const auto probe = [&](const CoreSet& set, double seconds) {
    const Sample before = sensors.read();
    const double tokens = generate(cpus_of(classes, set), seconds);
    const Sample after = sensors.read();
    const double took = std::max(after.seconds - before.seconds, 1e-6);
    spent += took;
    const auto joules = joules_between(before, after);
    measured = measured && joules;
    return Probe{.tokens_per_second = std::max(tokens, 1e-9) / took,
                 .watts = measured ? *joules / took : estimated_watts(classes, set, watts_per_core),
                 .seconds = took};
  };
  const bool counters = measured;
  CoreChoice choice = choose_cores(counts, probe);
  // What was measured and what is estimated cannot be compared: once more, all of it estimated.
  if (counters && !measured) choice = choose_cores(counts, probe, {.seconds_max = CoreChoiceOptions{}.seconds_max / 2});
  CoreDecision decision{.cpus = cpus_of(classes, choice.set), .measured = measured, .text = {}};
  int all = 0;
  for (const int n : counts) all += n;
  decision.text = fmt::format(
      "cores {} of {} of {} kinds: {:.3g} tokens/s at {:.3g} J a token ({}), the fastest of {} sets made {:.3g}; "
      "looked at for {:.1f} s",
      fmt::join(decision.cpus, ","), all, classes.size(), choice.probe.tokens_per_second,
      choice.probe.joules_per_token(), measured ? "measured" : "estimated", choice.looked_at, choice.fastest_rate,
      spent);
  return decision;
}

}  // namespace hearth::power
