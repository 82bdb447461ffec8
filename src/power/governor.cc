#include "power/governor.h"

#include <boost/json/array.hpp>
#include <cmath>

#include "base/log.h"

namespace hearth::power {
namespace {

namespace json = boost::json;

// A thread that hangs in a read of a broken driver must not leave the last decision standing.
constexpr double kLateSeconds = 2;

json::object reading_json(const Reading& reading) {
  json::object out{{"source", name(reading.source)}, {"value", nullptr}};
  if (reading.there() && std::isfinite(reading.value)) out["value"] = reading.value;
  if (!reading.problem.empty()) out["problem"] = reading.problem;
  return out;
}

json::value or_null(const std::optional<double>& value) { return value ? json::value(*value) : json::value(nullptr); }

std::string_view running(int classes) {
  return classes == kNothing ? "nothing" : classes == kNoBatch ? "all but batch" : "all";
}

}  // namespace

Governor::Governor(GovernorOptions options)
    : options_(std::move(options)),
      sensors_(options_.sensors),
      policy_(options_.policy),
      meter_(options_.watts_per_core) {}

std::unique_ptr<Governor> Governor::start(GovernorOptions options) {
  options.policy.can_hand_over = options.hand_over != nullptr;
  std::unique_ptr<Governor> governor(new Governor(std::move(options)));
  governor->tick();
  governor->thread_ = std::jthread([raw = governor.get()](const std::stop_token& stop) { raw->work(stop); });
  return governor;
}

Governor::~Governor() = default;

void Governor::work(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stop, options_.period, [] { return false; });
    }
    if (!stop.stop_requested()) tick();
  }
}

void Governor::tick() {
  Sample sample = sensors_.read();  // may take its time: without the lock
  std::string hand_over;
  {
    const std::scoped_lock lock(mutex_);
    sample.headroom = headroom(sample.seconds);
    meter_.add(sample);
    Work work = std::exchange(work_, {});
    work.joules = meter_.joules() - std::exchange(handed_joules_, meter_.joules());
    const bool handed = policy_.settings().hand_over;
    const double last_told = policy_.log().empty() ? -1 : policy_.log().back().seconds;
    const Settings& settings = policy_.decide(sample, work);
    if (settings.hand_over && !handed) hand_over = settings.reason;
    const LogEntry* news = policy_.log().empty() ? nullptr : &policy_.log().back();
    if (news != nullptr && news->seconds != last_told) {
      const LogLevel level = news->grave ? LogLevel::kWarning : LogLevel::kInfo;
      if (log_enabled(level)) log_line(level, "power: " + news->text);
    }
    decided_at_ = sample.seconds;
    sample_ = std::move(sample);
    told_late_ = false;
  }
  if (!hand_over.empty()) options_.hand_over(hand_over);
}

// With the lock held.
bool Governor::is_late(double now) const {
  return now - decided_at_ > kLateSeconds + std::chrono::duration<double>(options_.period).count() &&
         (policy_.limit_c() || policy_.floor_percent());
}

void Governor::note(std::string text) {
  LOG(kInfo, "power: {}", text);
  const std::scoped_lock lock(mutex_);
  policy_.note({sample_.seconds, std::move(text)});
}

void Governor::use_threads(int n_threads, std::string why) {
  note(std::move(why));
  const std::scoped_lock lock(mutex_);
  options_.policy.n_threads = n_threads;
  policy_.use_threads(n_threads);
}

void Governor::tell_headroom(double headroom) {
  const std::scoped_lock lock(mutex_);
  headroom_ = headroom, headroom_at_ = sensors_.now();
}

// With the lock held.
Reading Governor::headroom(double now) const {
  constexpr double kFreshSeconds = 30;
  if (headroom_at_ < 0) return {};
  if (now - headroom_at_ <= kFreshSeconds) return {headroom_, Source::kMeasured};
  return {.problem = fmt::format("told last {:.0f} s ago", now - headroom_at_)};
}

bool Governor::wants_smaller_model() const {
  const std::scoped_lock lock(mutex_);
  return policy_.settings().smaller_model;
}

Result<void> Governor::admit() const {
  const std::scoped_lock lock(mutex_);
  if (policy_.settings().refuse.empty()) return {};
  return fail(Code::kBusy, "{}", policy_.settings().refuse);
}

Governor::Pace Governor::step_done(int read, int generated, int drafted) {
  const double now = sensors_.now(), used = sensors_.own_cpu();
  const std::scoped_lock lock(mutex_);
  work_.tokens += read + generated;
  const double cpu = used - std::exchange(step_cpu_, used);
  if (read == 0) work_.generated += generated, work_.generating_cpu_seconds += cpu, work_.drafted += drafted;
  const Settings& settings = policy_.settings();
  Pace pace{.share = settings.share,
            .classes = settings.classes,
            .threads = settings.threads,
            .bits = settings.bits,
            .prefill_max = settings.prefill_max,
            .drafts_max = settings.drafts_max};
  if (is_late(now)) {
    pace.share = std::min(pace.share, kSafeShare);
    if (!std::exchange(told_late_, true))
      LOG(kWarning, "power: safe mode: the sensors have not answered for {:.1f} s", now - decided_at_);
  }
  pace.pause_seconds = duty_.pause(now, used, pace.share, options_.policy.n_threads);
  return pace;
}

Governor::Energy Governor::take_energy() {
  const double used = sensors_.own_cpu();
  const std::scoped_lock lock(mutex_);
  const double cpu = std::max(0.0, used - std::exchange(taken_cpu_, used));
  return {cpu * meter_.joules_per_cpu_second(), meter_.source() == Source::kMeasured};
}

json::object Governor::state() const {
  const std::scoped_lock lock(mutex_);
  const Settings& settings = policy_.settings();
  const PolicyOptions& options = policy_.options();
  json::array log;
  for (const LogEntry& entry : policy_.log())
    log.push_back({{"seconds_ago", sample_.seconds - entry.seconds}, {"text", entry.text}});
  json::object heat{{"limit_c", or_null(policy_.limit_c())}};
  if (policy_.heat().ready()) {
    const auto& figures = policy_.heat().figures();
    heat["model"] = {{"die_rise_c", figures[HeatModel::kRise1]},
                     {"die_seconds", figures[HeatModel::kTau1]},
                     {"case_rise_c", figures[HeatModel::kRise2]},
                     {"case_seconds", figures[HeatModel::kTau2]},
                     {"ambient_c", figures[HeatModel::kAmbient]},
                     {"residual_c", policy_.heat().residual_c()},
                     {"full_load_in_40_s_c", policy_.heat().predict(1, 40)}};
  }
  return {{"profile", name(options.profile)},
          {"settings",
           {{"share", settings.share},
            {"runs", running(settings.classes)},
            {"threads", settings.threads > 0 ? settings.threads : options.n_threads},
            {"bits", settings.bits},
            {"smaller_model", settings.smaller_model},
            {"prefill_max", settings.prefill_max},
            {"drafts_max", settings.drafts_max},
            {"reason", settings.reason},
            {"refuses", settings.refuse}}},
          {"asked",
           {{"share", options.share},
            {"max_temp_c", or_null(options.max_temp_c)},
            {"battery_floor", or_null(policy_.floor_percent())},
            {"joules_per_token", or_null(options.joules_per_token)}}},
          {"sensors",
           {{"temperature_c", reading_json(sample_.temperature_c)},
            {"trip_c", reading_json(sample_.trip_c)},
            {"thermal_headroom", reading_json(sample_.headroom)},
            {"package_joules", reading_json(sample_.joules)},
            {"battery_percent", reading_json(sample_.battery_percent)},
            {"battery_watts", reading_json(sample_.battery_watts)},
            {"on_battery", sample_.on_battery},
            {"clock_share", reading_json(sample_.clock)},
            {"cpu_pressure_percent", reading_json(sample_.pressure)}}},
          {"energy",
           {{"joules", meter_.joules()},
            {"measured_joules", meter_.measured_joules()},
            {"watts", meter_.watts()},
            {"joules_per_token", policy_.joules_per_token()},
            {"joules_per_cpu_second", meter_.joules_per_cpu_second()},
            {"source", name(meter_.source())}}},
          {"heat", std::move(heat)},
          {"decisions", std::move(log)}};
}

void Governor::write_metrics(Exposition& out) const {
  const std::scoped_lock lock(mutex_);
  const auto gauge = [&](std::string_view family, std::string_view help, double value) {
    out.family(family, "gauge", help);
    out.sample({}, value);
  };
  out.family("hearth_joules_total", "counter", "Energy of this process, by where the figure comes from");
  out.sample({{"source", "measured"}}, meter_.measured_joules());
  out.sample({{"source", "estimated"}}, meter_.joules() - meter_.measured_joules());
  gauge("hearth_power_share", "Part of the processor that the power policy allows", policy_.settings().share);
  gauge("hearth_power_classes", "Classes of requests that the power policy lets run, of 3", policy_.settings().classes);
  if (sample_.temperature_c.there())
    gauge("hearth_temperature_celsius", "The hottest processor zone", sample_.temperature_c.value);
  if (sample_.battery_percent.there())
    gauge("hearth_battery_percent", "Charge of the battery", sample_.battery_percent.value);
}

}  // namespace hearth::power
