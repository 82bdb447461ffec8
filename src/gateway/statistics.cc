#include "gateway/statistics.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace hearth::gateway {
namespace {

constexpr std::array<std::string_view, 9> kNames{"outlier", "drift", "spike",     "unusual", "fast",
                                                 "silent",  "back",  "condition", "said"};

double median(std::span<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

std::string_view name(EventKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::optional<EventKind> event_kind(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<EventKind>(found - kNames.begin());
}

void QuantileMarkers::add(double value) {
  if (count_ < 5) {
    height_[count_++] = value;
    std::sort(height_.begin(), height_.begin() + static_cast<std::ptrdiff_t>(count_));
    place_ = {1, 2, 3, 4, 5};
    wanted_ = {1, 1 + 2 * quantile_, 1 + 4 * quantile_, 3 + 2 * quantile_, 5};
    return;
  }
  ++count_;
  height_[0] = std::min(height_[0], value);
  height_[4] = std::max(height_[4], value);
  size_t cell = 0;
  while (cell < 3 && value >= height_[cell + 1]) ++cell;
  for (size_t i = cell + 1; i < 5; ++i) ++place_[i];
  const std::array<double, 5> steps{0, quantile_ / 2, quantile_, (1 + quantile_) / 2, 1};
  for (size_t i = 0; i < 5; ++i) wanted_[i] += steps[i];
  for (size_t i = 1; i < 4; ++i) {
    const double off = wanted_[i] - place_[i];
    if (!(off >= 1 && place_[i + 1] - place_[i] > 1) && !(off <= -1 && place_[i - 1] - place_[i] < -1)) continue;
    const double step = off > 0 ? 1 : -1;
    const double before = place_[i] - place_[i - 1], after = place_[i + 1] - place_[i];
    const double parabola = height_[i] + step / (place_[i + 1] - place_[i - 1]) *
                                             ((before + step) * (height_[i + 1] - height_[i]) / after +
                                              (after - step) * (height_[i] - height_[i - 1]) / before);
    const size_t towards = step > 0 ? i + 1 : i - 1;
    height_[i] = height_[i - 1] < parabola && parabola < height_[i + 1]
                     ? parabola
                     : height_[i] + step * (height_[towards] - height_[i]) / (place_[towards] - place_[i]);
    place_[i] += step;
  }
}

double QuantileMarkers::value() const {
  if (count_ == 0) return 0;
  if (count_ > 5) return height_[2];
  return height_[std::min<size_t>(count_ - 1, static_cast<size_t>(quantile_ * static_cast<double>(count_)))];
}

SignalStatistics::SignalStatistics(const Watch& watch) : watch_(watch) {
  if (watch.unusual > 0) hours_ = std::make_unique<std::array<Moments, 168>>();
}

void SignalStatistics::tell(bool now, EventKind kind, const Event& event, std::vector<Event>& events) {
  const auto bit = static_cast<uint16_t>(1u << static_cast<unsigned>(kind));
  if (now && (under_way_ & bit) == 0) {
    events.push_back(event);
    events.back().kind = kind;
  }
  under_way_ = static_cast<uint16_t>(now ? under_way_ | bit : under_way_ & ~bit);
}

bool SignalStatistics::is_spike(SignalId signal, double value, int64_t time_ms, std::vector<Event>& events) {
  if (watch_.spike <= 0) return false;
  bool spike = false;
  if (n_neighbours_ == kNeighbours) {
    std::array<double, kNeighbours> sorted = neighbours_;
    const double middle = median(sorted);
    for (double& each : sorted) each = std::abs(each - middle);
    // 1.4826: a normal distribution's standard deviation in medians of absolute deviations.
    const double spread = std::max(1.4826 * median(sorted), 1e-9 * std::max(1.0, std::abs(middle)));
    const double score = std::abs(value - middle) / spread;
    spike = score > watch_.spike;
    tell(spike, EventKind::kSpike, {{}, signal, time_ms, value, middle, score}, events);
  }
  neighbours_[next_neighbour_] = value;
  next_neighbour_ = (next_neighbour_ + 1) % kNeighbours;
  n_neighbours_ = std::min(n_neighbours_ + 1, kNeighbours);
  return spike;
}

// The z-score is taken before the value moves the mean; while it is an outlier it moves it little, so that the first value of a
// fault does not make the second one normal.
void SignalStatistics::check_mean(SignalId signal, double value, int64_t time_ms, std::vector<Event>& events) {
  const double deviation = std::sqrt(std::max(variance_, 0.0)), off = value - mean_;
  const double least = 1e-9 * std::max(1.0, std::abs(mean_));
  bool outlier = false;
  if (watch_.outlier > 0 && count_ >= kWarmUp) {
    const double score = std::abs(off) / std::max(deviation, least);
    outlier = score > watch_.outlier;
    tell(outlier, EventKind::kOutlier, {{}, signal, time_ms, value, mean_, score}, events);
  }
  const double weight = count_ < kWarmUp ? 1.0 / static_cast<double>(count_ + 1) : watch_.weight * (outlier ? 0.1 : 1);
  mean_ += weight * off;
  variance_ = (1 - weight) * (variance_ + weight * off * off);

  if (watch_.drift <= 0) return;
  if (base_count_ < kWarmUp) {
    const double before = value - base_mean_;
    base_mean_ += before / static_cast<double>(++base_count_);
    base_squares_ += before * (value - base_mean_);
    return;
  }
  constexpr double kAllowance = 0.5;
  const double z = (value - base_mean_) / std::max(std::sqrt(base_squares_ / kWarmUp), least);
  drift_up_ = std::max(0.0, drift_up_ + z - kAllowance);
  drift_down_ = std::max(0.0, drift_down_ - z - kAllowance);
  const double most = std::max(drift_up_, drift_down_);
  if (most <= watch_.drift) return;
  events.push_back({EventKind::kDrift, signal, time_ms, value, base_mean_, most});
  drift_up_ = drift_down_ = base_mean_ = base_squares_ = 0;  // the new level is the base from now on
  base_count_ = 0;
}

void SignalStatistics::check_hour(SignalId signal, double value, int64_t time_ms, int hour,
                                  std::vector<Event>& events) {
  if (!hours_) return;
  Moments& usual = (*hours_)[static_cast<size_t>(std::clamp(hour, 0, 167))];
  const double off = value - static_cast<double>(usual.mean);
  if (usual.count >= kWarmUp) {
    const double score = std::abs(off) / std::max(std::sqrt(static_cast<double>(usual.variance)), 1e-6);
    tell(score > watch_.unusual, EventKind::kUnusual,
         {{}, signal, time_ms, value, static_cast<double>(usual.mean), score}, events);
  }
  constexpr uint32_t kRemembered = 3600 * 4;  // of one value a second: four weeks
  usual.count = std::min(usual.count + 1, kRemembered);
  const double weight = 1.0 / static_cast<double>(usual.count);
  usual.mean += static_cast<float>(weight * off);
  usual.variance += static_cast<float>(
      weight * (off * (value - static_cast<double>(usual.mean)) - static_cast<double>(usual.variance)));
}

void SignalStatistics::add_to_window(double value, int64_t time_ms) {
  const int64_t length = watch_.window.count();
  if (length <= 0) return;
  if (open_.count > 0 && (time_ms < open_.begin_ms || time_ms - open_.begin_ms >= length)) {
    complete_ = open_;
    complete_.p95 = p95_.value();
    open_ = {};
  }
  if (open_.count == 0) {
    open_ = {time_ms - ((time_ms % length) + length) % length, 0, value, value, 0, 0};
    p95_ = QuantileMarkers(0.95);
  }
  ++open_.count;
  open_.min = std::min(open_.min, value), open_.max = std::max(open_.max, value);
  open_.mean += (value - open_.mean) / static_cast<double>(open_.count);
  p95_.add(value);
}

bool SignalStatistics::add(SignalId signal, double value, int64_t time_ms, int hour_of_week,
                           std::vector<Event>& events) {
  const bool first = count_ == 0;
  if (watch_.fast > 0 && !first && time_ms > last_time_ms_) {
    const double rate = (value - last_) * 1000 / static_cast<double>(time_ms - last_time_ms_);
    tell(std::abs(rate) > watch_.fast, EventKind::kFast, {{}, signal, time_ms, value, last_, std::abs(rate)}, events);
  }
  add_to_window(value, time_ms);
  if (!is_spike(signal, value, time_ms, events)) {
    check_mean(signal, value, time_ms, events);
    check_hour(signal, value, time_ms, hour_of_week, events);
  }
  ++count_;
  last_ = value, last_time_ms_ = time_ms;
  if (!first && std::abs(value - reported_) < watch_.deadband) return false;
  reported_ = value;
  return true;
}

}  // namespace hearth::gateway
