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

struct Share {
  uint64_t bytes = 0, token_bytes = 0;
  uint64_t prompt_bytes = 0;  // read for a row of a prompt: the head only sees the last one
};
Share share(const PlannerModel& model, const Sums& sums, bool owner, size_t first, size_t end) {
  const uint64_t layers = sums.token_bytes[end] - sums.token_bytes[first];
  return {sums.bytes[end] - sums.bytes[first] + (owner ? model.ends.bytes : 0),
          layers + (owner ? model.ends.token_bytes : 0), layers};
}

// How long machine `m` takes to put a token, and so many rows of a prompt, through its share.
double read_seconds(const PlannerMachine& m, const Share& own, double prompt_rows) {
  const double prompt_rate = std::max(m.prompt_bytes_per_second, m.bytes_per_second);
  return static_cast<double>(own.token_bytes) / m.bytes_per_second +
         prompt_rows * static_cast<double>(own.prompt_bytes) / prompt_rate;
}

double prompt_rows_per_token(const PlannerWish& wish) {
  return static_cast<double>(wish.prompt_rows) / wish.answer_tokens;
}

// The same for layers [first, end); kNever if they do not fit.
double stage_seconds(const PlannerModel& model, const Sums& sums, const PlannerMachine& m, const PlannerWish& wish,
                     bool owner, size_t first, size_t end) {
  const Share own = share(model, sums, owner, first, end);
  if (own.bytes > m.memory_bytes || m.bytes_per_second <= 0) return kNever;
  return read_seconds(m, own, prompt_rows_per_token(wish));
}

double hop_seconds(const PlannerModel& model, const PlannerMachine& from, const PlannerMachine& to, int rows) {
  const double bytes = static_cast<double>(model.row_bytes) * rows;
  return from.link_seconds + to.link_seconds + bytes / std::min(from.link_bytes_per_second, to.link_bytes_per_second);
}

// The ends of each part's layers so that the sum of all, or the slowest of them, takes least; empty if they do not fit. The owner's part
// may be empty, the others not.
std::vector<size_t> divide(const PlannerModel& model, const Sums& sums, std::span<const PlannerMachine* const> parts,
                           const PlannerWish& wish, bool slowest) {
  const size_t n = model.layers.size();
  std::vector<std::vector<double>> best(parts.size(), std::vector<double>(n + 1, kNever));
  std::vector<std::vector<size_t>> from(parts.size(), std::vector<size_t>(n + 1));
  for (size_t end = 0; end <= n; ++end) best[0][end] = stage_seconds(model, sums, *parts[0], wish, true, 0, end);
  for (size_t p = 1; p < parts.size(); ++p)
    for (size_t end = 1; end <= n; ++end)
      for (size_t first = 0; first < end; ++first) {
        const double before = best[p - 1][first];
        const double own = stage_seconds(model, sums, *parts[p], wish, false, first, end);
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

// What a plan's steps take: of one token, of a chunk of a prompt, and the slowest of both.
struct Times {
  double token = 0, chunk = 0, slowest_chunk = 0, slowest = 0;
  void add_link(double of_token, double of_chunk) {
    token += of_token, chunk += of_chunk;
    slowest_chunk = std::max(slowest_chunk, of_chunk);
  }
  void add_stage(const PlannerMachine& m, const Share& own, int rows, double rows_per_token) {
    const double each = read_seconds(m, own, 0);
    add_link(each, read_seconds(m, own, rows) - each);
    slowest = std::max(slowest, read_seconds(m, own, rows_per_token));
  }
};

constexpr int kChunkRows = 128;  // as chains divide prompts

void finish(PlannedChain& made, const Times& times, const PlannerWish& wish) {
  const int chunks = (wish.prompt_rows + kChunkRows - 1) / kChunkRows;
  made.token_seconds = times.token;
  if (chunks > 0) made.prompt_seconds = times.chunk + (chunks - 1) * times.slowest_chunk;
  const double answer = made.prompt_seconds + wish.answer_tokens * made.token_seconds;
  made.tokens_per_second = std::min(wish.streams * wish.answer_tokens / answer, 1 / times.slowest);
}

PlannedChain measured(const PlannerModel& model, const Sums& sums, std::span<const PlannerMachine> machines,
                      std::span<const int> chosen, std::span<const size_t> ends, const PlannerWish& wish, int head) {
  PlannedChain made;
  made.head = head;
  made.plan.own_end = static_cast<int>(ends[0]);
  const int rows = std::min(wish.prompt_rows, kChunkRows);
  Times times;
  double head_busy = 0;  // at a stage
  size_t first = 0;
  for (size_t p = 0; p < ends.size(); ++p) {
    const PlannerMachine& machine = machines[static_cast<size_t>(chosen[p])];
    const Share own = share(model, sums, p == 0, first, ends[p]);
    times.add_stage(machine, own, rows, prompt_rows_per_token(wish));
    if (const PlannerMachine& next = machines[static_cast<size_t>(chosen[(p + 1) % ends.size()])]; ends.size() > 1)
      times.add_link(hop_seconds(model, machine, next, 1), hop_seconds(model, machine, next, rows));
    if (p > 0) made.plan.stages.push_back({chosen[p], {static_cast<int>(first), static_cast<int>(ends[p])}});
    if (head > 0 && chosen[p] == head) head_busy = read_seconds(machine, own, prompt_rows_per_token(wish));
    made.bytes.push_back(own.bytes);
    first = ends[p];
  }
  if (head > 0) {
    const PlannerMachine& machine = machines[static_cast<size_t>(head)];
    const double seconds = read_seconds(machine, {.token_bytes = model.head.token_bytes}, 0);
    times.add_link(hop_seconds(model, machines[0], machine, 1) + seconds + hop_seconds(model, machine, machines[0], 0),
                   0);
    times.slowest = std::max(times.slowest, head_busy + seconds);
  }
  finish(made, times, wish);
  return made;
}

// The owner alone, with what its memory has no room for read from its disk for each token and each chunk; no bytes if it cannot.
PlannedChain streamed(const PlannerModel& model, const Sums& sums, const PlannerMachine& owner,
                      const PlannerWish& wish) {
  PlannedChain made;
  const Share all = share(model, sums, true, 0, model.layers.size());
  const uint64_t largest = std::ranges::max(model.layers, {}, &PlannerLayer::bytes).bytes;
  // What streams needs room for two layers: one that computes, one that comes.
  if (owner.disk_bytes_per_second <= 0 || owner.bytes_per_second <= 0 || all.bytes <= owner.memory_bytes ||
      model.ends.bytes + 2 * largest > owner.memory_bytes)
    return made;
  made.plan.own_end = static_cast<int>(model.layers.size());
  made.bytes = {owner.memory_bytes};
  made.streamed_bytes = all.bytes - owner.memory_bytes;
  const double disk = static_cast<double>(made.streamed_bytes) / owner.disk_bytes_per_second;
  Times times;
  times.add_stage(owner, all, std::min(wish.prompt_rows, kChunkRows), prompt_rows_per_token(wish));
  times.add_link(disk, disk);
  times.slowest += disk / wish.streams;  // all answers share a pass
  finish(made, times, wish);
  return made;
}

// Over as many of the others as are looked at, the lowest by `order` first.
template <typename Order>
Result<PlannedChain> plan_over(const PlannerModel& model, std::span<const PlannerMachine> machines,
                               const PlannerWish& wish, int head, const Order& order) {
  if (machines.empty() || model.layers.empty() || wish.streams < 1 || wish.prompt_rows < 0 || wish.answer_tokens < 1)
    return fail(Code::kInvalidArgument, "a plan for {} machines, {} layers and {} answers at once", machines.size(),
                model.layers.size(), wish.streams);
  const Sums sums(model.layers);
  std::vector<int> others(machines.size() - 1);
  std::iota(others.begin(), others.end(), 1);
  std::erase_if(others, [&](int i) { return machines[static_cast<size_t>(i)].bytes_per_second <= 0; });
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
    // Chunks of one prompt follow each other as several answers do, its tokens do not: both ways are tried for it.
    for (const bool slowest : {false, true}) {
      if (!slowest && wish.streams > 1) continue;
      const std::vector<size_t> ends = divide(model, sums, parts, wish, slowest);
      if (ends.empty()) break;
      const PlannedChain made = measured(model, sums, machines, chosen, ends, wish, head);
      if (set == 0) alone = made, alone.alone_fits = true;
      // Fewer machines come first where several are as good.
      const bool better = made.tokens_per_second > best.tokens_per_second * (1 + 1e-9) ||
                          (made.tokens_per_second >= best.tokens_per_second && made.bytes.size() < best.bytes.size());
      if (best.bytes.empty() || better) best = made;
    }
  }
  if (alone.bytes.empty()) alone = streamed(model, sums, machines[0], wish);
  if (best.bytes.empty()) best = alone;
  if (best.bytes.empty()) {
    uint64_t room = 0;
    for (const PlannerMachine& machine : machines) room += machine.memory_bytes;
    return fail(Code::kLimit,
                "the model fits on no chain of these machines: weights and state take {} bytes, of which {} are the "
                "owner's; all machines together have {}",
                sums.bytes.back() + model.ends.bytes, model.ends.bytes, room);
  }
  const bool keep_alone = !alone.bytes.empty() && best.tokens_per_second <= alone.tokens_per_second * (1 + wish.margin);
  PlannedChain planned = keep_alone ? alone : best;
  planned.alone_fits = alone.alone_fits;
  planned.alone_tokens_per_second = alone.tokens_per_second;
  return planned;
}

// With the head on a machine.
Result<PlannedChain> plan_head(const PlannerModel& model, std::span<const PlannerMachine> machines,
                               const PlannerWish& wish, int head) {
  // The nearest machines first; where these have too little memory, those that have the most.
  const auto planned =
      plan_over(model, machines, wish, head, [&](int i) { return machines[static_cast<size_t>(i)].link_seconds; });
  if (planned || planned.error().code != Code::kLimit || machines.size() - 1 <= kPlannedMachines) return planned;
  return plan_over(model, machines, wish, head,
                   [&](int i) { return -static_cast<double>(machines[static_cast<size_t>(i)].memory_bytes); });
}

// Over all that are left.
Result<PlannedChain> plan_with(const PlannerModel& model, std::span<const PlannerMachine> machines,
                               const PlannerWish& wish) {
  const auto here = plan_head(model, machines, wish, 0);
  auto best = here;
  PlannerModel rest = model;
  rest.ends = {model.ends.bytes - model.head.bytes, model.ends.token_bytes - model.head.token_bytes};
  for (size_t head = 1; head < machines.size() && model.head.bytes > 0; ++head) {
    std::vector<PlannerMachine> others(machines.begin(), machines.end());
    if (others[head].bytes_per_second <= 0 || others[head].memory_bytes < model.head.bytes) continue;
    others[head].memory_bytes -= model.head.bytes;
    others[0].disk_bytes_per_second = 0;  // who reads weights from its disk has all of them
    const auto there = plan_head(rest, others, wish, static_cast<int>(head));
    if (!there || (here && there->tokens_per_second <= here->tokens_per_second * (1 + wish.margin))) continue;
    if (!best || there->tokens_per_second > best->tokens_per_second) best = there;
  }
  if (!best || best->head == 0) return best;
  best->alone_fits = here && here->alone_fits;
  best->alone_tokens_per_second = here ? here->alone_tokens_per_second : 0;
  return best;
}

void count_replicas(const PlannerModel& model, std::span<const PlannerMachine> machines, const PlannerWish& wish,
                    PlannedChain& planned) {
  if (wish.streams < 2) return;
  const Sums sums(model.layers);
  for (size_t i = 0; i < machines.size(); ++i) {
    const double seconds = stage_seconds(model, sums, machines[i], wish, true, 0, model.layers.size());
    if (seconds == kNever) continue;
    planned.replicas.push_back(static_cast<int>(i));
    planned.replicas_tokens_per_second += 1 / seconds;
  }
}

}  // namespace

Result<PlannedChain> plan_chain(const PlannerModel& model, std::span<const PlannerMachine> machines,
                                const PlannerWish& wish) {
  // Those that are not wanted stay in their places, and can do nothing.
  std::vector<PlannerMachine> wanted(machines.begin(), machines.end());
  for (PlannerMachine& each : wanted)
    if (each.cloud && !wish.cloud) each.bytes_per_second = 0;
  std::vector<PlannerMachine> plugged = wanted;
  bool battery = false;
  for (size_t i = 1; i < plugged.size(); ++i)
    if (plugged[i].battery) plugged[i].bytes_per_second = 0, battery = true;
  auto planned = plan_with(model, plugged, wish);
  if (battery)
    if (auto with_all = plan_with(model, wanted, wish);
        with_all && (!planned || with_all->tokens_per_second > planned->tokens_per_second * (1 + wish.battery_margin)))
      planned = std::move(with_all);
  if (planned) count_replicas(model, plugged, wish, *planned);
  return planned;
}

}  // namespace hearth::cluster
