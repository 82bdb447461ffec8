#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace hearth {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

}  // namespace

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void Exposition::sample(const Labels& labels, double value, std::string_view suffix) {
  sample_of(write(labels), value, suffix);
}

void Exposition::sample_of(std::string_view written_labels, double value, std::string_view suffix) {
  text_ += fmt::format("{}{}{} {}\n", name_, suffix, written_labels, number(value));
}

std::string Exposition::write(const Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    text += fmt::format("{}{}=\"", text.empty() ? "{" : ",", name);
    for (const char c : value) {
      if (c == '\n')
        text += "\\n";
      else if (c == '"' || c == '\\')
        (text += '\\') += c;
      else
        text += c;
    }
    text += '"';
  }
  return text.empty() ? text : text + '}';
}

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()), counts_(bounds.size() + 1) {}

void Histogram::observe(double value) {
  const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void Histogram::write(Exposition& out, const Labels& labels) const {
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < bounds_.size() ? number(bounds_[i]) : "+Inf";
    Labels bucket = labels;
    bucket.emplace_back("le", bound);
    out.sample(bucket, static_cast<double>(count), "_bucket");
  }
  out.sample(labels, sum_.load(std::memory_order_relaxed), "_sum");
  out.sample(labels, static_cast<double>(count), "_count");
}

std::span<const double> seconds_buckets() {
  static constexpr double kBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                       0.5,   1,      2.5,   5,    10,    30,   60,  300};
  return kBounds;
}

struct Metrics::Series {
  std::vector<std::pair<std::string, std::string>> labels;
  Counter counter;
  std::optional<Histogram> histogram;
};

struct Metrics::Family {
  std::string help;
  bool is_histogram = false;
  std::map<std::string, std::unique_ptr<Series>> series;  // by written labels
};

Metrics::Metrics() = default;
Metrics::~Metrics() = default;

Metrics::Series& Metrics::series(std::string_view name, std::string_view help, const Labels& labels) {
  auto& family = families_[std::string(name)];
  if (!family) family = std::make_unique<Family>(Family{std::string(help), false, {}});
  Labels kept = labels;
  std::string written = Exposition::write(kept);
  if (!family->series.contains(written) && family->series.size() >= kSeriesMax) {
    for (auto& label : kept) label.second = "other";
    written = Exposition::write(kept);
  }
  auto& made = family->series[written];
  if (!made) {
    made = std::make_unique<Series>();
    made->labels.assign(kept.begin(), kept.end());
  }
  return *made;
}

Counter& Metrics::counter(std::string_view name, std::string_view help, const Labels& labels) {
  const std::scoped_lock lock(mutex_);
  return series(name, help, labels).counter;
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                              const Labels& labels) {
  const std::scoped_lock lock(mutex_);
  Series& made = series(name, help, labels);
  if (!made.histogram) made.histogram.emplace(bounds);
  families_.find(name)->second->is_histogram = true;
  return *made.histogram;
}

void Metrics::write(Exposition& out) const {
  const std::scoped_lock lock(mutex_);
  for (const auto& [name, family] : families_) {
    out.family(name, family->is_histogram ? "histogram" : "counter", family->help);
    for (const auto& [written, each] : family->series) {
      if (each->histogram)
        each->histogram->write(out, Labels(each->labels.begin(), each->labels.end()));
      else
        out.sample_of(written, each->counter.value());
    }
  }
}

}  // namespace hearth
