#include "engine/speculation.h"

#include <algorithm>

namespace hearth {
namespace {

constexpr double kGainMin = 1.03;  // less is lost again in what is not measured

}  // namespace

std::string_view name(DraftSource source) {
  constexpr std::array<std::string_view, kDraftSources.size()> kNames{"text", "answers", "model", "exit"};
  return kNames[static_cast<size_t>(source)];
}

int match_of(double probability) {
  constexpr std::array kFrom{0.3, 0.5, 0.7, 0.8, 0.9, 0.97};
  constexpr std::array kMatches{2, 3, 4, 6, 9, 16, 32};
  return kMatches[static_cast<size_t>(std::ranges::upper_bound(kFrom, probability) - kFrom.begin())];
}

GuessPlan plan_guesses(std::span<const double> chances, double guess_seconds, const RowCosts& costs) {
  const double one = costs.seconds(1);
  if (one == 0) return {};
  GuessPlan plan{.count = 0, .rate = 1 / one};
  double tokens = 1, reached = 1, best = kGainMin / one;
  const int most = std::min(static_cast<int>(chances.size()), RowCosts::kRowsMax - 1);
  for (int count = 1; count <= most; ++count) {
    reached *= chances[static_cast<size_t>(count) - 1];
    tokens += reached;
    const double rate = tokens / (costs.seconds(1 + count) + count * guess_seconds);
    if (rate > best) best = rate, plan = {.count = count, .rate = rate};
  }
  return plan;
}

size_t Acceptance::length_class(int match) {
  constexpr std::array kUpTo{1, 2, 3, 4, 6, 9, 16};
  static_assert(kUpTo.size() + 1 == kLengths);
  return static_cast<size_t>(std::ranges::lower_bound(kUpTo, match) - kUpTo.begin());
}

double Acceptance::expected(int match) {
  constexpr std::array<double, kLengths> kExpected{0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9};
  return kExpected[length_class(match)];
}

void Acceptance::add(DraftSource source, int match, bool came_true) {
  constexpr float kKept = 0.95f;  // of what was counted before
  Count& count = counts_[static_cast<size_t>(source)][length_class(match)];
  count.true_ones = kKept * count.true_ones + (came_true ? 1.0f : 0.0f);
  count.all = kKept * count.all + 1.0f;
}

double Acceptance::chance(DraftSource source, int match, double expected) const {
  constexpr double kWeight = 4;  // of what is expected
  const Count& count = counts_[static_cast<size_t>(source)][length_class(match)];
  return (static_cast<double>(count.true_ones) + kWeight * expected) / (static_cast<double>(count.all) + kWeight);
}

bool RowCosts::known(int rows, int times) const {
  constexpr uint64_t kForgotten = 1024;  // steps: by then contexts have grown, or others need the machine
  const Cost& cost = costs_[static_cast<size_t>(rows)];
  return cost.times >= times && steps_ - cost.step <= kForgotten;
}

void RowCosts::add(int rows, double seconds) {
  constexpr double kShorter = 0.3, kLonger = 0.05, kLongest = 1.5;  // weights, and what is cut off
  ++steps_;
  if (rows < 1 || rows > kRowsMax) return;
  Cost& cost = costs_[static_cast<size_t>(rows)];
  if (!known(rows))
    cost = {.seconds = seconds};
  else if (seconds < cost.seconds)
    cost.seconds += kShorter * (seconds - cost.seconds);
  else
    cost.seconds += kLonger * (std::min(seconds, kLongest * cost.seconds) - cost.seconds);
  cost.step = steps_;
  ++cost.times;
}

double RowCosts::on_the_line(int rows, int times) const {
  constexpr double kPerRow = 0.3;  // of a step of one row, as long as nobody knows better
  int below = rows, above = rows;
  while (below >= 1 && !known(below, times)) --below;
  while (above <= kRowsMax && !known(above, times)) ++above;
  const auto guess = [](int n) { return 1 + kPerRow * (n - 1); };
  const double low = below >= 1 ? costs_[static_cast<size_t>(below)].seconds : 0;
  const double high = above <= kRowsMax ? costs_[static_cast<size_t>(above)].seconds : 0;
  if (low == 0 && high == 0) return 0;
  if (low == 0) return high * guess(rows) / guess(above);
  if (high == 0) return low * guess(rows) / guess(below);
  return above == below ? low : low + (high - low) * (rows - below) / (above - below);
}

double RowCosts::seconds(int rows) const {
  constexpr int kSure = 3;  // times
  double seconds = on_the_line(rows, kSure);
  if (seconds == 0) seconds = on_the_line(rows, 1);
  for (int more = rows; more <= kRowsMax; ++more)
    if (known(more)) seconds = std::min(seconds, costs_[static_cast<size_t>(more)].seconds);
  return seconds;
}

void choose_drafts(std::span<const std::span<const double>> chances, const RowCosts& costs, int rows_max,
                   std::span<int> counts) {
  std::ranges::fill(counts, 0);
  const int sequences = static_cast<int>(chances.size());
  rows_max = std::min(rows_max, RowCosts::kRowsMax);
  if (sequences == 0 || sequences >= rows_max || costs.seconds(sequences) == 0) return;

  // Rows are added one by one, the likeliest first: `order` says whose. What counts is the best of the steps on this way.
  constexpr double kSlowest = 1.1;  // of a sequence's own time for a token, without and with
  std::array<int, RowCosts::kRowsMax> order{}, taken{};
  std::array<double, RowCosts::kRowsMax> reached{}, expected{};  // that all of a sequence's rows come true; its tokens
  std::ranges::fill(reached, 1.0);
  std::ranges::fill(expected, 1.0);
  const double without = costs.seconds(sequences);
  double tokens = sequences, best_rate = kGainMin * sequences / without;
  int rows = sequences, best_rows = sequences;
  for (; rows < rows_max; ++rows) {
    int next = -1;
    double chance = 0;
    for (int i = 0; i < sequences; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto used = static_cast<size_t>(taken[at]);
      if (used >= chances[at].size() || reached[at] * chances[at][used] <= chance) continue;
      chance = reached[at] * chances[at][used];
      next = i;
    }
    if (next < 0) break;
    const auto at = static_cast<size_t>(next);
    ++taken[at];
    reached[at] = chance;
    expected[at] += chance;
    tokens += chance;
    order[static_cast<size_t>(rows - sequences)] = next;
    const double seconds = costs.seconds(rows + 1), rate = tokens / seconds;
    const double fewest = *std::min_element(expected.begin(), expected.begin() + sequences);
    if (rate > best_rate && seconds <= kSlowest * fewest * without) best_rate = rate, best_rows = rows + 1;
  }
  for (int i = 0; i < best_rows - sequences; ++i) ++counts[static_cast<size_t>(order[static_cast<size_t>(i)])];
}

}  // namespace hearth
