#include "gateway/adapter_line.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "base/log.h"

namespace hearth::gateway {
namespace {

using std::chrono::milliseconds;
constexpr size_t kLiveMax = 20'000, kActsMax = 256, kTogether = 64;
constexpr milliseconds kPauseLeast{250}, kPauseMost{1000}, kDrainEvery{50};

}  // namespace

AdapterLine::AdapterLine(Profile::Part part, Options options)
    : part_(std::move(part)),
      options_(std::move(options)),
      names_(options_.signals),
      unsupported_(options_.signals.size()) {}

AdapterLine::~AdapterLine() { stop(); }

Result<> AdapterLine::start(GatewayInputs inputs) {
  if (auto started = part_.adapter->start(std::move(inputs)); !started) return within(part_.name, started.error());
  may_wait_ = true;
  actor_ = std::jthread([this](const std::stop_token& stop) { carry_out(stop); });
  sender_ = std::jthread([this](const std::stop_token& stop) { pass_on(stop); });
  return {};
}

void AdapterLine::stop() {
  if (!actor_.joinable()) return;
  actor_.request_stop(), sender_.request_stop();
  work_.notify_all();
  actor_.join(), sender_.join();
  part_.adapter->stop();
  std::vector<Sample> left(live_.begin(), live_.end());
  live_.clear();
  keep(left);
}

void AdapterLine::act(const Act& act) {
  {
    const std::scoped_lock lock(mutex_);
    if (act.urgent) {
      acts_.push_front(act);
    } else if (acts_.size() < kActsMax) {
      acts_.push_back(act);
    } else {
      return options_.done(act.id, fail(Code::kBusy, "{}: {} writes wait already", part_.name, acts_.size()));
    }
  }
  work_.notify_all();
}

void AdapterLine::publish(const Sample& sample) {
  std::vector<Sample> oldest;
  {
    const std::scoped_lock lock(mutex_);
    if (unsupported_[sample.signal] != 0) return;
    if (live_.size() >= kLiveMax) {  // the far side is slow: the older half goes to disk, together
      const auto half = live_.begin() + static_cast<std::ptrdiff_t>(kLiveMax / 2);
      oldest.assign(live_.begin(), half);
      live_.erase(live_.begin(), half);
    }
    live_.push_back(sample);
  }
  if (!oldest.empty()) keep(oldest);
  work_.notify_all();
}

void AdapterLine::carry_out(const std::stop_token& stop) {
  for (;;) {
    Act act;
    {
      std::unique_lock lock(mutex_);
      if (!work_.wait(lock, stop, [&] { return !acts_.empty(); })) break;
      act = std::move(acts_.front());
      acts_.pop_front();
    }
    options_.done(act.id, part_.adapter->write(act.write));
  }
}

Record AdapterLine::record_of(const Sample& sample) const {
  const Signal& signal = options_.signals[sample.signal];
  return {part_.name, signal.name, signal.record_class, sample.value, sample.time_ms, sample.quality, 0};
}

// For later.
void AdapterLine::keep(std::span<const Sample> samples) {
  std::vector<Record> records;
  {
    const std::scoped_lock lock(mutex_);
    for (const Sample& sample : samples) {
      if (unsupported_[sample.signal] != 0) continue;
      if (options_.history || options_.signals[sample.signal].record_class == RecordClass::kA)
        records.push_back(record_of(sample));
      else
        newest_[sample.signal] = sample;
    }
    if (records.empty()) return;
    may_wait_ = true;
  }
  if (const auto kept = options_.queue->push(records); !kept) {
    const std::scoped_lock lock(mutex_);
    figures_.lost += records.size();
    LOG(kError, "{}: {} samples are lost: {}", part_.name, records.size(), kept.error().message);
  }
}

// What must not be lost is on disk before it is tried.
bool AdapterLine::pass_live(std::vector<Sample> samples) {
  for (size_t i = 0; i < samples.size(); ++i) {
    const Sample& sample = samples[i];
    std::array<Record, 1> record{record_of(sample)};
    const bool must_arrive = record[0].record_class == RecordClass::kA && unsupported_[sample.signal] == 0;
    if (must_arrive && !options_.queue->push(record)) record[0].number = 0;
    const auto passed = part_.adapter->publish(sample);
    const bool never = !passed && passed.error().code == Code::kUnsupported;
    if (record[0].number > 0 && (passed || never)) (void)options_.queue->done(record[0]);
    if (never) {
      const std::scoped_lock lock(mutex_);
      unsupported_[sample.signal] = 1;
    } else if (!passed) {
      if (must_arrive && record[0].number > 0) {
        const std::scoped_lock lock(mutex_);
        may_wait_ = true;
        ++i;
      }
      keep(std::span(samples).subspan(i));
      return false;
    } else {
      const std::scoped_lock lock(mutex_);
      ++figures_.live_passed;
      newest_.erase(sample.signal);
    }
  }
  return true;
}

bool AdapterLine::drain(size_t most, size_t& passed) {
  std::vector<Sample> newest;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = newest_.begin(); at != newest_.end() && newest.size() < most; at = newest_.erase(at))
      newest.push_back(at->second);
  }
  passed += newest.size();
  if (!newest.empty()) return pass_live(std::move(newest));
  const auto records = options_.queue->next(part_.name, most);
  if (!records || records->empty()) {
    const std::scoped_lock lock(mutex_);
    may_wait_ = !records;
    return true;
  }
  int64_t up_to = 0;
  bool taken = true;
  for (const Record& record : *records) {
    const auto signal = names_.find(record.signal);
    // A signal that the profile has no more, or with another type, has no receiver either.
    if (signal && has_type(record.value, options_.signals[*signal].type)) {
      const auto sent = part_.adapter->publish({*signal, record.value, record.time_ms, record.quality});
      taken = sent || sent.error().code == Code::kUnsupported;
      if (!taken) break;
    }
    up_to = record.number;
    ++passed;
  }
  if (up_to > 0) (void)options_.queue->done(part_.name, up_to);
  const std::scoped_lock lock(mutex_);
  figures_.history_passed += passed;
  return taken;
}

void AdapterLine::pass_on(const std::stop_token& stop) {
  using Clock = std::chrono::steady_clock;
  milliseconds pause = kPauseLeast;
  auto drain_from = Clock::now(), blocked_until = drain_from;
  const auto per_turn =
      static_cast<size_t>(std::max<int64_t>(1, options_.drain_per_second * kDrainEvery.count() / 1000));
  while (!stop.stop_requested()) {
    std::vector<Sample> live;
    bool waiting = false;
    {
      std::unique_lock lock(mutex_);
      const auto wake = may_wait_ || !newest_.empty() ? std::max(drain_from, blocked_until) : Clock::now() + kPauseMost;
      work_.wait_until(lock, stop, wake, [&] { return !live_.empty(); });
      const size_t count = std::min(live_.size(), kTogether);
      live.assign(std::make_move_iterator(live_.begin()),
                  std::make_move_iterator(live_.begin() + static_cast<std::ptrdiff_t>(count)));
      live_.erase(live_.begin(), live_.begin() + static_cast<std::ptrdiff_t>(count));
      waiting = may_wait_ || !newest_.empty();
    }
    const auto now = Clock::now();
    if (now < blocked_until) {
      keep(live);
      continue;
    }
    bool taken = live.empty() || pass_live(std::move(live));
    if (taken && waiting && now >= drain_from) {
      size_t passed = 0;
      taken = drain(per_turn, passed);
      drain_from = now + kDrainEvery;
    }
    if (taken) {
      pause = kPauseLeast;
      continue;
    }
    blocked_until = now + pause;
    pause = std::min(pause * 2, kPauseMost);
  }
}

AdapterLine::Figures AdapterLine::figures() const {
  Figures figures;
  {
    const std::scoped_lock lock(mutex_);
    figures = figures_;
  }
  figures.adapter = part_.adapter->figures();
  figures.waiting = options_.queue->waiting(part_.name);
  return figures;
}

}  // namespace hearth::gateway
