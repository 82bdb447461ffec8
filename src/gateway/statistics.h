// What is watched on a signal without a model: streaming, in a fixed memory per signal, a few dozen operations per sample.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/signal.h"

namespace hearth::gateway {

// What happened to a signal. Each is told once when it begins and again only after it was over.
enum class EventKind : uint8_t {
  kOutlier,    // far from the moving mean: EWMA z-score (Roberts 1959)
  kDrift,      // the mean has moved: two-sided CUSUM (Page 1954)
  kSpike,      // one value far from the median of its neighbours: Hampel filter; it is kept out of the other statistics
  kUnusual,    // far from what this hour of the week is like
  kFast,       // changes faster than allowed
  kSilent,     // nothing heard for too long
  kBack,       // heard again
  kCondition,  // the condition of a rule has become true
  kSaid,       // a person asked for something in words
};
std::string_view name(EventKind kind);
std::optional<EventKind> event_kind(std::string_view name);

struct Event {
  EventKind kind{};
  SignalId signal = 0;
  int64_t time_ms = 0;
  double value = 0, expected = 0;  // what it was, and what was usual (the mean, the median, the limit)
  double score = 0;                // how far, in the unit of the check's limit
};

// 0: not watched.
struct Watch {
  double deadband = 0;                       // smaller changes are no news; 0: every value is
  std::chrono::milliseconds window{60'000};  // of min, max, mean, p95 and count
  double outlier = 0;                        // standard deviations
  double weight = 0.02;                      // of the newest value in the moving mean
  double drift = 0;    // CUSUM's decision interval, standard deviations; its allowance is half of one
  double spike = 0;    // scaled median absolute deviations
  double unusual = 0;  // standard deviations of the hour of the week
  double fast = 0;     // units per second
  std::chrono::milliseconds silence{0};
};

struct Window {
  int64_t begin_ms = 0;
  uint64_t count = 0;
  double min = 0, max = 0, mean = 0, p95 = 0;
};

// A quantile without keeping the values: P² (Jain and Chlamtac 1985), five markers.
class QuantileMarkers {
 public:
  explicit QuantileMarkers(double quantile) : quantile_(quantile) {}
  void add(double value);
  [[nodiscard]] double value() const;  // exact up to five values

 private:
  double quantile_;
  uint64_t count_ = 0;
  std::array<double, 5> height_{};
  std::array<double, 5> place_{}, wanted_{};
};

class SignalStatistics {
 public:
  explicit SignalStatistics(const Watch& watch);

  // Appends what happened. `value` is a good number. True if it differs from the last reported one by the deadband or more.
  // Times may jump either way: what needs two times in order is left out then. `hour_of_week`: 0 to 167, Monday first, local.
  bool add(SignalId signal, double value, int64_t time_ms, int hour_of_week, std::vector<Event>& events);
  [[nodiscard]] const Window& last_window() const { return complete_; }  // count 0: none yet
  [[nodiscard]] double mean() const { return mean_; }

 private:
  static constexpr size_t kNeighbours = 7;
  static constexpr uint64_t kWarmUp = 30;  // values before deviations mean anything
  struct Moments {
    float mean = 0, variance = 0;
    uint32_t count = 0;
  };

  bool is_spike(SignalId signal, double value, int64_t time_ms, std::vector<Event>& events);
  void check_mean(SignalId signal, double value, int64_t time_ms, std::vector<Event>& events);
  void check_hour(SignalId signal, double value, int64_t time_ms, int hour, std::vector<Event>& events);
  void add_to_window(double value, int64_t time_ms);
  // Tells an event when it begins.
  void tell(bool now, EventKind kind, const Event& event, std::vector<Event>& events);

  Watch watch_;
  uint64_t count_ = 0;
  double mean_ = 0, variance_ = 0;
  double drift_up_ = 0, drift_down_ = 0;
  double base_mean_ = 0,
         base_squares_ = 0;  // of the first kWarmUp values since the last drift: what CUSUM compares with
  uint64_t base_count_ = 0;
  std::array<double, kNeighbours> neighbours_{};
  size_t n_neighbours_ = 0, next_neighbour_ = 0;
  double last_ = 0, reported_ = 0;
  int64_t last_time_ms_ = 0;
  uint16_t under_way_ = 0;  // bits of EventKind
  Window open_, complete_;
  QuantileMarkers p95_{0.95};
  std::unique_ptr<std::array<Moments, 168>> hours_;  // only where it is watched: 2 KiB
};

}  // namespace hearth::gateway
