// What a person would call the matter with a signal is told, once, and a healthy signal is left alone.
#include "gateway/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace hearth::gateway {
namespace {

class Watched {
 public:
  explicit Watched(const Watch& watch) : statistics_(watch) {}
  bool add(double value, int hour = 0) { return statistics_.add(0, value, at_ += 1000, hour, events); }
  [[nodiscard]] int count(EventKind kind) const {
    return static_cast<int>(std::ranges::count(events, kind, &Event::kind));
  }
  double noise() { return normal_(random_); }
  std::vector<Event> events{};
  int64_t at_ = 0;
  SignalStatistics statistics_;

 private:
  std::mt19937 random_{4};
  std::normal_distribution<double> normal_{0, 1};
};

TEST(Statistics, ADeadbandKeepsSmallChangesBackButNotASlowClimb) {
  Watched signal({.deadband = 1});
  EXPECT_TRUE(signal.add(10));
  EXPECT_FALSE(signal.add(10.6));
  EXPECT_FALSE(signal.add(9.5));
  EXPECT_TRUE(signal.add(11));
  int reported = 0;
  for (int i = 1; i <= 100; ++i) reported += signal.add(11 + i * 0.1) ? 1 : 0;
  EXPECT_EQ(reported, 10);
}

TEST(Statistics, AnOutlierIsToldWhenItBeginsAndAgainOnlyAfterItWasOver) {
  Watched signal({.outlier = 6});
  for (int i = 0; i < 2000; ++i) signal.add(50 + signal.noise());
  EXPECT_EQ(signal.count(EventKind::kOutlier), 0);
  for (int i = 0; i < 5; ++i) signal.add(70);
  EXPECT_EQ(signal.count(EventKind::kOutlier), 1);
  EXPECT_NEAR(signal.events[0].expected, 50, 1);
  for (int i = 0; i < 300; ++i) signal.add(50 + signal.noise());
  signal.add(90);
  EXPECT_EQ(signal.count(EventKind::kOutlier), 2);
}

TEST(Statistics, ADriftTooSmallForAnOutlierIsFound) {
  Watched signal({.outlier = 6, .drift = 12});
  for (int i = 0; i < 500; ++i) signal.add(60 + signal.noise());
  EXPECT_EQ(signal.count(EventKind::kDrift), 0);
  for (int i = 0; i < 100; ++i) signal.add(62 + signal.noise());
  EXPECT_EQ(signal.count(EventKind::kDrift), 1);
  EXPECT_EQ(signal.count(EventKind::kOutlier), 0);
}

TEST(Statistics, ASpikeIsToldAndLeavesTheMeanAlone) {
  Watched signal({.spike = 8});
  for (int i = 0; i < 100; ++i) signal.add(20 + 0.1 * signal.noise());
  const double before = signal.statistics_.mean();
  signal.add(500);
  EXPECT_EQ(signal.count(EventKind::kSpike), 1);
  EXPECT_EQ(signal.statistics_.mean(), before);
  for (int i = 0; i < 20; ++i) signal.add(20 + 0.1 * signal.noise());
  EXPECT_EQ(signal.count(EventKind::kSpike), 1);
}

TEST(Statistics, AnHourOfTheWeekHasItsOwnUsual) {
  Watched signal({.unusual = 6});
  for (int week = 0; week < 4; ++week)
    for (int i = 0; i < 60; ++i) {
      signal.add(2000 + 50 * signal.noise(), 19);
      signal.add(200 + 10 * signal.noise(), 3);
    }
  EXPECT_EQ(signal.count(EventKind::kUnusual), 0);
  signal.add(2000, 19);
  EXPECT_EQ(signal.count(EventKind::kUnusual), 0);
  signal.add(2000, 3);
  EXPECT_EQ(signal.count(EventKind::kUnusual), 1);
}

TEST(Statistics, ChangesPerSecondAreOfTheSamplesTimesWhichMayJump) {
  Watched signal({.fast = 2});
  signal.add(10), signal.add(11.5);
  EXPECT_EQ(signal.count(EventKind::kFast), 0);
  signal.add(15);
  EXPECT_EQ(signal.count(EventKind::kFast), 1);
  signal.at_ -= 3'600'000;
  signal.add(90);
  EXPECT_EQ(signal.count(EventKind::kFast), 1) << "a clock that was set back tells nothing of speed";
}

TEST(Statistics, AWindowHasWhatAListOfItsValuesWouldGive) {
  Watched signal({.window = std::chrono::seconds(1000)});
  signal.at_ = 1'000'000'000 - 1000;
  std::vector<double> values;
  for (int i = 0; i < 1000; ++i) values.push_back(100 + 15 * signal.noise());
  for (const double value : values) signal.add(value);
  EXPECT_EQ(signal.statistics_.last_window().count, 0u);
  signal.add(0);
  const Window& window = signal.statistics_.last_window();
  std::ranges::sort(values);
  EXPECT_EQ(window.count, 1000u);
  EXPECT_EQ(window.min, values.front());
  EXPECT_EQ(window.max, values.back());
  double sum = 0;
  for (const double value : values) sum += value;
  EXPECT_NEAR(window.mean, sum / 1000, 1e-9);
  EXPECT_GT(window.p95, values[930]);
  EXPECT_LT(window.p95, values[970]);
}

TEST(Statistics, AConstantSignalIsNotAnomalous) {
  Watched signal({.outlier = 4, .drift = 5, .spike = 4, .unusual = 4});
  for (int i = 0; i < 5000; ++i) signal.add(21.5);
  EXPECT_TRUE(signal.events.empty());
}

}  // namespace
}  // namespace hearth::gateway
