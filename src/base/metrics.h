// Counters, gauges and histograms, and the text in which Prometheus reads them (exposition format 0.0.4).
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hearth {

// Names of labels and their values; few of them, and of each few values.
using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

// Writes the text form. A family's samples follow its head.
class Exposition {
 public:
  // `type`: "counter", "gauge" or "histogram".
  void family(std::string_view name, std::string_view type, std::string_view help);
  // One sample of the last family; `suffix` as "_bucket".
  void sample(const Labels& labels, double value, std::string_view suffix = {});
  void sample_of(std::string_view written_labels, double value, std::string_view suffix = {});
  [[nodiscard]] const std::string& text() const { return text_; }
  // {a="b",c="d"} with what has to be escaped escaped; empty if there are no labels.
  static std::string write(const Labels& labels);

 private:
  std::string name_, text_;
};

// All three: any thread, no locks. Values go up from zero.
class Counter {
 public:
  void add(double amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // Upper bounds of its buckets, ascending; one more takes what is above.
  explicit Histogram(std::span<const double> bounds);
  void observe(double value);
  void write(Exposition& out, const Labels& labels) const;

 private:
  std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

// From a millisecond to some minutes, in steps of two or three.
std::span<const double> seconds_buckets();

// Series by name and labels, made when first asked for. Any thread; what is returned lives as long as this. A family has at most
// kSeriesMax series: what comes later is counted in one whose labels say "other".
class Metrics {
 public:
  static constexpr size_t kSeriesMax = 500;
  Metrics();
  ~Metrics();
  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                       const Labels& labels = {});
  void write(Exposition& out) const;

 private:
  struct Series;
  struct Family;
  Series& series(std::string_view name, std::string_view help, const Labels& labels);

  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;
};

}  // namespace hearth
