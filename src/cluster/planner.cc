#include "cluster/planner.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace hearth::cluster {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Sums over layers [0, i).
struct Sums {
  explicit Sums(const std::vector<PlannerLayer>& layers) : bytes(1), token_bytes(1) {
    for (const PlannerLayer& layer : layers) {
      bytes.push_back(bytes.back() + layer.bytes);
      token_bytes.push_back(token_bytes.back() + layer.token_bytes);
    }
  }
  std::vector<uint64_t> bytes, token_bytes;
};

// How long machine `m` takes for layers [first, end) of one token; kNever if they do not fit.
double stage_seconds(const PlannerModel& model, const Sums& sums, const PlannerMachine& m, bool owner, size_t first,
                     size_t end) {
  const uint64_t bytes = sums.bytes[end] - sums.bytes[first] + (owner ? model.ends.bytes : 0);
  if (bytes > m.memory_bytes || m.bytes_per_second <= 0) return kNever;
  const uint64_t read = sums.token_bytes[end] - sums.token_bytes[first] + (owner ? model.ends.token_bytes : 0);
  return static_cast<double>(read) / m.bytes_per_second;
}

double hop_seconds(const PlannerModel& model, const PlannerMachine& from, const PlannerMachine& to) {
  return from.link_seconds + to.link_seconds +
         static_cast<double>(model.row_bytes) / std::min(from.link_bytes_per_second, to.link_bytes_per_second);
}

// The ends of each part's layers so that the sum of all, or the slowest of them, takes least; empty if they do not fit. The owner's part
// may be empty, the others not.
std::vector<size_t> divide(const PlannerModel& model, const Sums& sums, std::span<const PlannerMachine* const> parts,
                           bool slowest) {
  const size_t n = model.layers.size();
  std::vector<std::vector<double>> best(parts.size(), std::vector<double>(n + 1, kNever));
  std::vector<std::vector<size_t>> from(parts.size(), std::vector<size_t>(n + 1));
  for (size_t end = 0; end <= n; ++end) best[0][end] = stage_seconds(model, sums, *parts[0], true, 0, end);
  for (size_t p = 1; p < parts.size(); ++p)
    for (size_t end = 1; end <= n; ++end)
      for (size_t first = 0; first < end; ++first) {
        const double before = best[p - 1][first];
        const double own = stage_seconds(model, sums, *parts[p], false, first, end);
        const double both = slowest ? std::max(before, own) : before + own;
        if (both < best[p][end]) best[p][end] = both, from[p][end] = first;
      }
  if (best.back()[n] == kNever) return {};
  std::vector<size_t> ends(parts.size());
  size_t end = n;
  for (size_t p = parts.size(); p-- > 0;) {
    ends[p] = end;
    end = from[p][end];
  }
  return ends;
}

PlannedChain measured(const PlannerModel& model, const Sums& sums, std::span<const PlannerMachine> machines,
                      std::span<const int> chosen, std::span<const size_t> ends, int streams) {
  PlannedChain made;
  made.plan.own_end = static_cast<int>(ends[0]);
  double slowest = 0;
  size_t first = 0;
  for (size_t p = 0; p < ends.size(); ++p) {
    const PlannerMachine& machine = machines[static_cast<size_t>(chosen[p])];
    const double own = stage_seconds(model, sums, machine, p == 0, first, ends[p]);
    made.token_seconds += own;
    slowest = std::max(slowest, own);
    if (ends.size() > 1)
      made.token_seconds += hop_seconds(model, machine, machines[static_cast<size_t>(chosen[(p + 1) % ends.size()])]);
    if (p > 0) made.plan.stages.push_back({chosen[p], {static_cast<int>(first), static_cast<int>(ends[p])}});
    made.bytes.push_back(sums.bytes[ends[p]] - sums.bytes[first] + (p == 0 ? model.ends.bytes : 0));
    first = ends[p];
  }
  made.tokens_per_second = std::min(streams / made.token_seconds, 1 / slowest);
  return made;
}

// Over as many of the others as are looked at, the lowest by `order` first.
template <typename Order>
Result<PlannedChain> plan_over(const PlannerModel& model, std::span<const PlannerMachine> machines,
                               const PlannerWish& wish, const Order& order) {
  if (machines.empty() || model.layers.empty() || wish.streams < 1)
    return fail(Code::kInvalidArgument, "a plan for {} machines, {} layers and {} answers at once", machines.size(),
                model.layers.size(), wish.streams);
  const Sums sums(model.layers);
  std::vector<int> others(machines.size() - 1);
  std::iota(others.begin(), others.end(), 1);
  std::ranges::stable_sort(others, {}, order);
  others.resize(std::min(others.size(), kPlannedMachines));
  PlannedChain best, alone;
  for (uint32_t set = 0; set < (1u << others.size()); ++set) {
    std::vector<int> chosen{0};
    std::vector<const PlannerMachine*> parts{machines.data()};
    for (size_t i = 0; i < others.size(); ++i)
      if ((set >> i & 1) != 0) {
        chosen.push_back(others[i]);
        parts.push_back(&machines[static_cast<size_t>(others[i])]);
      }
    if (parts.size() - 1 > model.layers.size()) continue;
    const std::vector<size_t> ends = divide(model, sums, parts, wish.streams > 1);
    if (ends.empty()) continue;
    const PlannedChain made = measured(model, sums, machines, chosen, ends, wish.streams);
    if (set == 0) alone = made;
    // Fewer machines come first where several are as good.
    const bool better = made.tokens_per_second > best.tokens_per_second * (1 + 1e-9) ||
                        (made.tokens_per_second >= best.tokens_per_second && made.bytes.size() < best.bytes.size());
    if (best.bytes.empty() || better) best = made;
  }
  if (best.bytes.empty()) {
    uint64_t room = 0;
    for (const PlannerMachine& machine : machines) room += machine.memory_bytes;
    return fail(Code::kLimit,
                "the model fits on no chain of these machines: weights and state take {} bytes, of which {} are the "
                "owner's; all machines together have {}",
                sums.bytes.back() + model.ends.bytes, model.ends.bytes, room);
  }
  const bool fits = !alone.bytes.empty();
  const bool keep_alone = fits && best.tokens_per_second <= alone.tokens_per_second * (1 + wish.margin);
  PlannedChain planned = keep_alone ? alone : best;
  planned.alone_fits = fits;
  planned.alone_tokens_per_second = alone.tokens_per_second;
  return planned;
}

}  // namespace

Result<PlannedChain> plan_chain(const PlannerModel& model, std::span<const PlannerMachine> machines,
                                const PlannerWish& wish) {
  // The nearest machines first; where these have too little memory, those that have the most.
  const auto planned =
      plan_over(model, machines, wish, [&](int i) { return machines[static_cast<size_t>(i)].link_seconds; });
  if (planned || planned.error().code != Code::kLimit || machines.size() - 1 <= kPlannedMachines) return planned;
  return plan_over(model, machines, wish,
                   [&](int i) { return -static_cast<double>(machines[static_cast<size_t>(i)].memory_bytes); });
}

}  // namespace hearth::cluster
