#include "engine/schedule.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace hearth {

bool before(const Precedence& a, const Precedence& b) {
  return std::tuple(a.request_class, a.deadline, -int64_t{a.priority}, a.tenant_served, a.arrival) <
         std::tuple(b.request_class, b.deadline, -int64_t{b.priority}, b.tenant_served, b.arrival);
}

int choose_waiting(std::span<const Waiting> waiting, double patience, bool overdue_turn) {
  if (waiting.empty()) return -1;
  const auto first = std::ranges::min_element(waiting, before, &Waiting::precedence);
  const auto longest = std::ranges::max_element(waiting, {}, &Waiting::seconds);
  const bool in_order =
      !overdue_turn || longest->seconds < patience || first->precedence.request_class == RequestClass::kRealtime;
  return static_cast<int>((in_order ? first : longest) - waiting.begin());
}

void compose_step(std::span<const Runnable> runnables, const StepLimits& limits, size_t first,
                  std::vector<Share>& shares) {
  shares.clear();
  const bool realtime = std::ranges::any_of(runnables, [](const Runnable& runnable) {
    return runnable.waiting > 0 && runnable.precedence.request_class == RequestClass::kRealtime;
  });
  const auto stands_still = [&](const Runnable& runnable) {
    const RequestClass of = runnable.precedence.request_class;
    return runnable.waiting == 0 || static_cast<int>(of) >= limits.classes || (realtime && of == RequestClass::kBatch);
  };
  int left = limits.rows_max;
  const size_t n = runnables.size();
  for (size_t i = 0; i < n && left > 0 && std::cmp_less(shares.size(), limits.generating_max); ++i) {
    const size_t index = (first + i) % n;
    if (runnables[index].prefill || stands_still(runnables[index])) continue;
    shares.push_back({static_cast<int>(index), 1});
    --left;
  }
  const size_t n_decode = shares.size();
  int chunk = std::min(left, n_decode == 0 ? limits.prefill_max : limits.mixed_prefill);
  while (chunk > 0) {
    int next = -1;
    for (size_t i = 0; i < n; ++i) {
      if (!runnables[i].prefill || stands_still(runnables[i])) continue;
      const bool taken = std::ranges::any_of(std::span(shares).subspan(n_decode),
                                             [&](Share share) { return share.index == static_cast<int>(i); });
      if (!taken && (next < 0 || before(runnables[i].precedence, runnables[static_cast<size_t>(next)].precedence)))
        next = static_cast<int>(i);
    }
    if (next < 0) break;
    shares.push_back({next, std::min(runnables[static_cast<size_t>(next)].waiting, chunk)});
    chunk -= shares.back().count;
  }
}

void Pace::add(int prompt_rows, int decode_rows, double seconds) {
  constexpr double kNew = 0.2;  // weight of the newest measurement
  constexpr int kRowsMin = 16;  // fewer rows cost about as much as one
  const auto mix = [](double& average, double value) { average += (average == 0 ? 1.0 : kNew) * (value - average); };
  if (prompt_rows == 0 && decode_rows > 0) mix(decode_step_, seconds);
  if (prompt_rows < kRowsMin) return;
  const double of_prompts = decode_rows == 0 ? seconds : seconds - decode_step_;
  if (of_prompts > 0) mix(prompt_row_, of_prompts / prompt_rows);
}

int Pace::rows_within(double seconds, int rows_max) const {
  constexpr int kFewest = 64, kUnmeasured = 128;
  if (prompt_row_ == 0) return std::min(kUnmeasured, rows_max);
  return std::min(rows_max, std::max(kFewest, static_cast<int>(std::min(seconds / prompt_row_, 1e6)) / 32 * 32));
}

int Pace::mixed_prefill(int prefill_max) const {
  constexpr int kFewest = 32, kUnmeasured = 64;
  constexpr double kSteps = 4, kSecondsMin = 0.1;
  if (prompt_row_ == 0) return std::min(kUnmeasured, prefill_max);
  const double rows = std::max(kSteps * decode_step_, kSecondsMin) / prompt_row_;
  return std::min(prefill_max, std::max(kFewest, static_cast<int>(std::min(rows, 1e6)) / 32 * 32));
}

}  // namespace hearth
