#include "base/metrics.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(MetricsTest, TextIsWhatPrometheusReads) {
  Metrics metrics;
  metrics.counter("b_total", "Things", {{"kind", "a\"b\\c\nd"}}).add(2);
  metrics.counter("b_total", "Things", {{"kind", "a\"b\\c\nd"}}).add();
  constexpr double kBounds[] = {0.5, 1};
  Histogram& histogram = metrics.histogram("a_seconds", "Times", kBounds);
  for (const double value : {0.5, 0.75, 3.0}) histogram.observe(value);
  Exposition out;
  metrics.write(out);
  EXPECT_EQ(out.text(),
            "# HELP a_seconds Times\n# TYPE a_seconds histogram\n"
            "a_seconds_bucket{le=\"0.5\"} 1\na_seconds_bucket{le=\"1\"} 2\na_seconds_bucket{le=\"+Inf\"} 3\n"
            "a_seconds_sum 4.25\na_seconds_count 3\n"
            "# HELP b_total Things\n# TYPE b_total counter\nb_total{kind=\"a\\\"b\\\\c\\nd\"} 3\n");
}

TEST(MetricsTest, SeriesOfAFamilyAreBounded) {
  Metrics metrics;
  for (int i = 0; i < 2000; ++i) metrics.counter("n_total", "Things", {{"name", std::to_string(i)}}).add();
  EXPECT_EQ(metrics.counter("n_total", "Things", {{"name", "another"}}).value(), 2000 - Metrics::kSeriesMax);
}

}  // namespace
}  // namespace hearth
