#include "serve/routing.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/limits.h"

namespace hearth::serve {
namespace {

// Until something was measured: a weak machine and a small model.
constexpr double kDecodeRate = 20, kPromptRate = 200, kAnswerSeconds = 5, kLoadSeconds = 10;
// What it costs others that their model has to be loaded again: so models settle where there is room for them.
constexpr double kCrowdsOutSeconds = 30;
// Each further sequence that runs slows the others: weights are read once for all, the rest is not.
constexpr double kCrowding = 0.5;
// Another machine has to be so much better: its answer travels, and may have to be computed again if it dies.
constexpr double kMargin = 0.85, kMarginSeconds = 0.02;
constexpr double kBatteryLow = 20;

bool full(const DoorView& view) { return view.waiting >= view.queue_max; }

double queue_seconds(const DoorView& view) {
  if (view.running < view.slots && view.waiting == 0) return 0;
  const double each = view.answer_seconds > 0 ? view.answer_seconds : kAnswerSeconds;
  return (view.waiting + 1.0) / std::max(view.slots, 1) * each / std::max(view.share, 0.05);
}

DoorReason reason_of(std::span<const DoorView> views, const std::vector<size_t>& order) {
  const DoorView& best = views[order.front()];
  if (best.here) return DoorReason::kHere;
  if (order.size() == 1) return DoorReason::kOnlyOne;
  const auto here = std::ranges::find_if(order, [&](size_t i) { return views[i].here; });
  if (here == order.end()) return DoorReason::kOnlyOne;
  const DoorView& own = views[*here];
  if (best.cached_tokens > own.cached_tokens) return DoorReason::kPrefix;
  return own.running + own.waiting > best.running + best.waiting ? DoorReason::kQueue : DoorReason::kSpeed;
}

}  // namespace

std::string_view name(DoorReason reason) {
  constexpr std::array<std::string_view, 8> kNames{"here",   "only_one",   "queue",          "speed",
                                                   "prefix", "cloud_full", "cloud_deadline", "cloud_outage"};
  return kNames[static_cast<size_t>(reason)];
}

double expected_seconds(const DoorView& view, const DoorAsk& ask) {
  const double share = std::max(view.share, 0.05);
  const double prompt = std::max(ask.prompt_tokens - view.cached_tokens, 0) /
                        (view.prompt_rate > 0 ? view.prompt_rate : kPromptRate) / share;
  const double crowd = 1 + kCrowding * std::min(view.running, view.slots - 1);
  const double decode =
      ask.answer_tokens / (view.decode_rate > 0 ? view.decode_rate : kDecodeRate) * std::max(crowd, 1.0) / share;
  double seconds = queue_seconds(view) + prompt + decode + view.latency_seconds + (view.loaded ? 0 : kLoadSeconds);
  if (view.crowds_out) seconds += kCrowdsOutSeconds;
  if (view.battery_percent) seconds *= *view.battery_percent < kBatteryLow ? 4 : 1.3;
  return view.here ? seconds * kMargin - kMarginSeconds : seconds;
}

DoorChoice choose_door(std::span<const DoorView> views, const DoorAsk& ask) {
  DoorChoice choice;
  double soonest = limits::kRetryAfterSeconds;
  std::vector<std::pair<double, size_t>> ranked;
  for (size_t i = 0; i < views.size(); ++i) {
    const DoorView& view = views[i];
    if (!view.usable || !view.has_model || (!view.here && ask.reach == Reach::kLocal)) continue;
    if (full(view)) {
      choice.full = true;
      soonest = std::min(soonest, queue_seconds(view) / (view.waiting + 1.0));
      continue;
    }
    ranked.emplace_back(expected_seconds(view, ask), i);
  }
  std::ranges::stable_sort(ranked, {}, &std::pair<double, size_t>::first);
  for (const auto& [seconds, i] : ranked) choice.order.push_back(i);
  const bool cloud = ask.cloud && ask.reach == Reach::kAny;
  if (choice.order.empty()) {
    choice.cloud = cloud;
    choice.reason = choice.full ? DoorReason::kCloudFull : DoorReason::kCloudOutage;
    choice.retry_after_seconds = std::clamp(static_cast<int>(std::ceil(soonest)), 1, limits::kRetryAfterSeconds);
    return choice;
  }
  choice.reason = reason_of(views, choice.order);
  if (cloud && ask.deadline_seconds && ranked.front().first > *ask.deadline_seconds) {
    choice.cloud = true;
    choice.reason = DoorReason::kCloudDeadline;
  }
  return choice;
}

}  // namespace hearth::serve
