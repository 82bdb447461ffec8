#include "power/policy.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace hearth::power {
namespace {

struct ProfileFigures {
  std::string_view name;
  double share, below_trip_c, floor_percent;  // no limit of its own where they are negative
  double yields_to;                           // share that is left where others wait for processors all the time
};
constexpr std::array<ProfileFigures, 3> kProfiles{
    {{"performance", 1, -1, -1, 1}, {"balanced", 1, 5, 15, 0.5}, {"saver", 0.5, 10, 25, 0.2}}};
const ProfileFigures& figures(Profile profile) { return kProfiles[static_cast<size_t>(profile)]; }

// Below the limit is aimed at: this and what the fit leaves, for what is known less well needs more distance.
constexpr double kMarginC = 0.7, kDoubtMinC = 0.2, kDoubtMaxC = 1;
// More of it while the model is young.
constexpr double kYoungC = 1, kYoungSeconds = 60;
// Fewer threads make more of the same time, and so more heat: for some seconds after a change a little less is allowed.
constexpr double kChangedSeconds = 6, kChangedShare = 0.92;
constexpr double kHorizon = 40;  // seconds that are looked ahead
// While the model of the heat is still a guess: as much of the share as would do even if full load made the die so much hotter at once.
constexpr double kFirstShare = 0.3, kFirstRiseC = 60;
constexpr double kRaise = 0.05;               // of the share, in a second
constexpr double kLeast = 0.02;               // share that a rule of degrees leaves; stopping is another step
constexpr double kSafeSeconds = 10;           // that it has to be well again
constexpr double kTooHotC = 2, kCooledC = 3;  // above the limit all work stops, until it is so far below
constexpr double kMovedC = 3, kStuckLoad = 0.5, kStuckSeconds = 15;
// A sensor that stays where it is, while the model moves by so many of its steps, times what the fit leaves, and degrees: as much as all
// of these say, and as far away from what is told. A model that is young is believed less.
constexpr double kStuckSteps = 3, kStuckDoubts = 4, kStuckC = 2.5, kStuckYoungC = 6;

// Gauges tell whole percents, some of them a minute late.
constexpr double kGaugePercent = 1, kGaugeSeconds = 60, kDrainFirst = 0.02, kDrainMax = 0.05;
constexpr double kDeferPercent = 4, kHysteresisPercent = 2, kDeferShare = 0.5;

// Percent of the last ten seconds in which somebody waited for a processor: from the one on less is taken, below the other more again, in
// a second. Without others that use some of a core it is our own threads that wait for each other.
constexpr double kCrowded = 25, kQuiet = 10, kOthersCores = 0.2, kYield = 0.05, kTakeBack = 0.02;

// Where heat leaves less than this for so long, quality goes a step down, and up again above the other.
constexpr double kWorseShare = 0.5, kBetterShare = 0.9, kWorseSeconds = 30;

constexpr int kRungs = 2;  // of the rule of joules per token: half the threads, one thread; then what costs quality
constexpr double kRungSeconds = 15, kRungTokens = 30, kRungDownSeconds = 300;

}  // namespace

std::string_view name(Profile profile) { return figures(profile).name; }

Result<Profile> parse_profile(std::string_view name) {
  for (size_t i = 0; i < kProfiles.size(); ++i)
    if (kProfiles[i].name == name) return static_cast<Profile>(i);
  return fail(Code::kInvalidArgument, "power profile '{}': there are performance, balanced and saver", name);
}

Policy::Policy(PolicyOptions options)
    : options_(options), floor_(options_.battery_floor), threads_(std::max(1, options.n_threads)) {
  const ProfileFigures& own = figures(options_.profile);
  options_.share = std::clamp(std::min(options_.share, own.share), 0.01, 1.0);
  options_.n_threads = std::max(1, options_.n_threads);
  if (!floor_ && own.floor_percent >= 0) floor_ = own.floor_percent;
  limit_c_ = options_.max_temp_c;
  drain_ = kDrainFirst;
  yield_share_ = options_.share;
  settings_.share = limit_c_ ? std::min(options_.share, kFirstShare) : options_.share;
}

const Settings& Policy::decide(const Sample& sample, const Work& work) {
  const double passed = last_ ? std::max(sample.seconds - last_->seconds, 1e-3) : 1;
  const auto load_of = [&](double Sample::* cpu_seconds) {
    return last_ ? std::max(0.0, sample.*cpu_seconds - (*last_).*cpu_seconds) / passed / options_.n_threads : 0.0;
  };
  const double own = load_of(&Sample::own_cpu_seconds);
  const double load = std::max(own, load_of(&Sample::busy_cpu_seconds));
  const double below = figures(options_.profile).below_trip_c;
  if (!options_.max_temp_c && below >= 0 && sample.trip_c.there()) limit_c_ = sample.trip_c.value - below;
  watch_sensor(sample, load);
  if (sample.temperature_c.there() && !same_.stuck) heat_.add(sample.seconds, sample.temperature_c.value, load);
  follow_battery(sample);

  Rule asked{.share = options_.share};
  if (options_.share < 1) asked.kind = "share", asked.reason = fmt::format("{:.0f} % asked for", 100 * options_.share);
  const int ran = settings_.threads > 0 ? settings_.threads : options_.n_threads;
  threads_.add(sample.seconds, ran, work.generated, work.generating_cpu_seconds);
  if (work.tokens == work.generated) drafts_.add(sample.seconds, work.generated, work.drafted, work.joules);
  apply(sample, {asked, heat_rule(sample, load - own), headroom_rule(sample), pressure_rule(sample, load - own),
                 battery_rule(sample), energy_rule(sample, work)});
  last_ = sample;
  return settings_;
}

// Notices a sensor that goes away, and one that always says the same where that cannot be.
void Policy::watch_sensor(const Sample& sample, double load) {
  const Reading& heat = sample.temperature_c;
  // What the model moves by, and not what it is corrected by.
  const double passed = last_ ? sample.seconds - last_->seconds : 0;
  if (heat_.ready() && heat.there()) expected_c_ += heat_.simulated_c(load, passed) - heat_.simulated_c(0, 0);
  if (heat.there() && (!had_temperature_ || heat.value != same_.value)) {
    const bool moved = same_.moved_before || (had_temperature_ && std::abs(heat.value - same_.value) >= kMovedC / 3);
    if (had_temperature_) step_c_ = std::min(step_c_, std::max(std::abs(heat.value - same_.value), 1e-3));
    same_ = {.value = heat.value,
             .low_c = expected_c_,
             .high_c = expected_c_,
             .low_load = load,
             .high_load = load,
             .moved_before = moved};
  }
  had_temperature_ |= heat.there();
  same_.low_c = std::min(same_.low_c, expected_c_), same_.high_c = std::max(same_.high_c, expected_c_);
  same_.low_load = std::min(same_.low_load, load), same_.high_load = std::max(same_.high_load, load);
  if (same_.load_moved_at < 0 && same_.high_load - same_.low_load >= kStuckLoad) same_.load_moved_at = sample.seconds;
  // The model is believed only of a sensor that it could be fitted to.
  const double least = heat_.seconds() < kYoungSeconds ? kStuckYoungC : kStuckC;
  const double bound = std::max({least, kStuckSteps * step_c_, kStuckDoubts * heat_.residual_c()});
  // And away from what is told: a model that only comes after says nothing against the sensor.
  const bool away = std::abs(heat_.simulated_c(load, passed) - heat.value) >= bound;
  same_.stuck |= same_.moved_before && away && same_.high_c - same_.low_c >= bound;
  same_.stuck |= same_.load_moved_at >= 0 && sample.seconds - same_.load_moved_at >= kStuckSeconds;

  std::string fault;
  if (!heat.problem.empty())
    fault = heat.problem;
  else if (!heat.there())
    fault = had_temperature_ ? "the temperature sensor is gone" : "there is no temperature sensor";
  else if (!std::isfinite(heat.value))
    fault = "the temperature is no number";
  else if (same_.stuck)
    fault = fmt::format("the temperature sensor says {:.1f} C all the time", heat.value);
  if (!fault.empty()) fault_ = std::move(fault), fault_at_ = sample.seconds;
}

Policy::Rule Policy::heat_rule(const Sample& sample, double other_load) {
  if (!limit_c_) return {};
  if (!fault_.empty()) {
    if (sample.seconds - fault_at_ < kSafeSeconds) {
      heat_share_ = std::min(heat_share_, kSafeShare);
      return {.share = kSafeShare, .kind = "sensor", .reason = "safe mode: " + fault_};
    }
    fault_.clear();
  }
  const double now = sample.temperature_c.value, limit = *limit_c_;
  too_hot_ = now >= limit + kTooHotC || (too_hot_ && now > limit - kCooledC);
  const double passed = last_ ? std::min(sample.seconds - last_->seconds, 10.0) : 0;
  const double young = kYoungC / (1 + heat_.seconds() / kYoungSeconds);
  aim_c_ = limit - kMarginC - young - std::clamp(heat_.residual_c(), kDoubtMinC, kDoubtMaxC);
  double allowed = heat_.highest_load(aim_c_, kHorizon) - other_load;
  if (heat_share_ == 0) heat_share_ = std::clamp((limit - now) / kFirstRiseC, kFirstShare, 1.0);
  if (now >= limit) allowed = kLeast;
  heat_share_ = std::clamp(std::min(allowed, heat_share_ + kRaise * passed), kLeast, 1.0);
  if (too_hot_) {
    const std::string why = fmt::format("{:.1f} C, the limit is {:.1f}", now, limit);
    return {.share = kLeast,
            .classes = kNothing,
            .kind = "too hot",
            .reason = "too hot: " + why,
            .refuse = fmt::format("this machine is too hot ({}); try again in some minutes", why)};
  }
  // Where not even half is left, fewer bits or a smaller model give some of it back.
  const bool worse = heat_share_ < kWorseShare && heat_worse_ < worse_max();
  if (worse || (heat_share_ > kBetterShare && heat_worse_ > 0)) {
    if (sample.seconds - worse_at_ >= kWorseSeconds) heat_worse_ += worse ? 1 : -1, worse_at_ = sample.seconds;
  } else {
    worse_at_ = sample.seconds;
  }
  if (heat_share_ >= 1) return {};
  return {.share = heat_share_,
          .worse = heat_worse_,
          .kind = "heat",
          .reason = fmt::format("{:.1f} C now, at full load {:.1f} in {:.0f} s, the limit is {:.1f}", now,
                                heat_.predict(1 + std::max(0.0, other_load), kHorizon), kHorizon, limit)};
}

// What Android tells: no degrees, but where 1 is. What is told goes up and down slowly, and so does the share.
Policy::Rule Policy::headroom_rule(const Sample& sample) {
  constexpr double kNear = 0.95, kFar = 0.85, kSevere = 1, kLower = 0.1;
  if (!sample.headroom.there() || !last_) {
    headroom_share_ = 1;
    return {};
  }
  const double passed = std::min(sample.seconds - last_->seconds, 10.0), now = sample.headroom.value;
  if (now >= kNear)
    headroom_share_ = std::min(headroom_share_ - kLower * passed, now >= kSevere ? kSafeShare : 1.0);
  else if (now < kFar)
    headroom_share_ += kRaise * passed;
  headroom_share_ = std::clamp(headroom_share_, 0.1, 1.0);
  if (headroom_share_ >= 1) return {};
  return {.share = headroom_share_,
          .kind = "headroom",
          .reason = fmt::format("the system's thermal headroom is {:.2f}, at 1 it throttles", now)};
}

// Others go first, where the profile says so.
Policy::Rule Policy::pressure_rule(const Sample& sample, double other_load) {
  const double least = figures(options_.profile).yields_to, most = options_.share;
  if (least >= 1 || !last_) return {};
  const double passed = std::min(sample.seconds - last_->seconds, 10.0);
  const double pressure = sample.pressure.there() ? sample.pressure.value : 0;
  const bool others = other_load * options_.n_threads >= kOthersCores;
  if (pressure >= kCrowded && others)
    yield_share_ -= kYield * passed;
  else if (pressure < kQuiet || !others)
    yield_share_ += kTakeBack * passed;
  yield_share_ = std::clamp(yield_share_, std::min(least, most), most);
  if (yield_share_ >= most) return {};
  return {.share = yield_share_,
          .kind = "others",
          .reason = fmt::format("others go first: somebody waited for a processor {:.0f} % of the time", pressure)};
}

// The percent, or what is left of the last one if the battery tells no more.
void Policy::follow_battery(const Sample& sample) {
  const Reading& now = sample.battery_percent;
  if (!now.there()) {
    if (!had_battery_ || !last_) return;
    on_battery_ = true;
    percent_ -= std::max(drain_, kDrainFirst) * (sample.seconds - last_->seconds);
    return;
  }
  const double fell = percent_ - now.value, passed = sample.seconds - percent_at_;
  if (!had_battery_ || fell < 0 || !sample.on_battery || !on_battery_)
    percent_ = now.value, percent_at_ = sample.seconds;
  else if (fell > 0) {
    drain_ += 0.5 * (std::clamp(fell / std::max(passed, 1.0), 0.001, kDrainMax) - drain_);
    percent_ = now.value, percent_at_ = sample.seconds;
  }
  had_battery_ = true;
  on_battery_ = sample.on_battery;
}

Policy::Rule Policy::battery_rule(const Sample& sample) {
  if (!floor_ || !had_battery_ || !on_battery_) {
    battery_classes_ = kAllClasses;
    return {};
  }
  const double stop_at = *floor_ + kGaugePercent + kGaugeSeconds * drain_, defer_at = stop_at + kDeferPercent;
  const auto below = [&](double percent, int classes) {
    return percent_ <= percent + (battery_classes_ <= classes ? kHysteresisPercent : 0);
  };
  battery_classes_ = below(stop_at, kNothing)                                           ? kNothing
                     : below(defer_at, kNoBatch) || options_.profile == Profile::kSaver ? kNoBatch
                                                                                        : kAllClasses;
  if (battery_classes_ == kAllClasses) return {};
  const std::string why = fmt::format("battery at {:.0f} %{}, the floor is {:.0f} %", percent_,
                                      sample.battery_percent.there() ? "" : " (estimated: it tells no more)", *floor_);
  Rule rule{.classes = battery_classes_, .kind = "battery", .reason = why};
  if (percent_ <= defer_at + kHysteresisPercent) rule.share = kDeferShare, rule.worse = worse_max();
  if (battery_classes_ > kNothing) return rule;
  rule.kind = "battery floor";
  rule.share = kLeast;
  rule.refuse = why + "; plug it in, or lower --battery-floor";
  return rule;
}

// A rung at a time, each for long enough to see what it brings.
Policy::Rule Policy::energy_rule(const Sample& sample, const Work& work) {
  tokens_ += work.tokens, joules_ += work.joules;
  if (tokens_ >= kRungTokens && joules_ > 0) {
    joules_per_token_ = joules_ / tokens_;
    const double lasted = sample.seconds - rung_at_;
    if (options_.joules_per_token && lasted >= kRungSeconds) {
      const bool over = joules_per_token_ > *options_.joules_per_token * 1.05;
      const bool easy = joules_per_token_ < *options_.joules_per_token * 0.7 && lasted >= kRungDownSeconds;
      const int rung = std::clamp(rung_ + (over ? 1 : easy ? -1 : 0), 0, kRungs + worse_max());
      if (rung != rung_) rung_ = rung, rung_at_ = sample.seconds;
    }
    tokens_ = joules_ = 0;
  }
  if (!options_.joules_per_token || rung_ == 0) return {};
  const int threads = rung_ == 1 ? std::max(1, options_.n_threads / 2) : 1;
  return {.threads = threads,
          .worse = std::max(0, rung_ - kRungs),
          .kind = "energy",
          .reason = fmt::format("{:.3g} J a token, {:.3g} asked for: {} of {} threads", joules_per_token_,
                                *options_.joules_per_token, threads, options_.n_threads)};
}

void Policy::tell(const Sample& sample, const Settings& next, bool grave) {
  std::string text = "nothing limits";
  if (!next.reason.empty())
    text = fmt::format("{:.0f} % of the processor{}{}{}{}{}: {}", 100 * next.share, next.bits < 8 ? ", at 4 bits" : "",
                       next.smaller_model ? ", a smaller model answers" : "",
                       drafts_.settled_without() ? ", no guessed tokens" : "",
                       next.classes == kNothing   ? ", all work waits"
                       : next.classes == kNoBatch ? ", batch work waits"
                                                  : "",
                       next.hand_over ? ", another machine takes over" : "", next.reason);
  note({sample.seconds, std::move(text), grave});
}

void Policy::note(LogEntry entry) {
  log_.push_back(std::move(entry));
  if (log_.size() > kLogMax) log_.pop_front();
}

void Policy::use_threads(int n_threads) {
  options_.n_threads = std::max(1, n_threads);
  threads_ = ThreadChoice(options_.n_threads);
}

void Policy::apply(const Sample& sample, std::initializer_list<Rule> rules) {
  Settings next;
  std::string kinds;
  int worse = 0;
  for (const Rule& rule : rules) {
    if (rule.kind.empty()) continue;
    next.share = std::min(next.share, rule.share);
    next.classes = std::min(next.classes, rule.classes);
    worse = std::max(worse, rule.worse);
    next.threads = std::max(next.threads, rule.threads);
    if (next.refuse.empty()) next.refuse = rule.refuse;
    next.reason += (next.reason.empty() ? "" : "; ") + rule.reason;
    kinds += rule.kind;
  }
  if (options_.may_lower_bits && worse > 0) next.bits = 4;
  next.smaller_model = options_.has_smaller_model && worse >= worse_max();
  const int threads = threads_.choose(sample.seconds, next.share, next.share >= options_.share);
  if (threads < settings_.threads) fewer_threads_at_ = sample.seconds;
  if (kinds.contains("heat") && sample.seconds - fewer_threads_at_ < kChangedSeconds) next.share *= kChangedShare;
  next.threads = next.threads > 0 ? std::min(next.threads, threads) : threads;
  const bool each_row_counts = options_.joules_per_token || kinds.contains("heat") || kinds.contains("headroom");
  if (!drafts_.choose(sample.seconds, each_row_counts)) next.drafts_max = 0;
  if (drafts_.settled_without())
    next.reason += fmt::format("{}{:.3g} J a token with guesses, {:.3g} without", next.reason.empty() ? "" : "; ",
                               drafts_.joules_per_token(true), drafts_.joules_per_token(false));
  // Chunks of prompts that leave pauses short.
  constexpr int kRows = 32, kRowsMax = 512;
  if (next.share < 1) next.prefill_max = std::max(kRows, static_cast<int>(next.share * kRowsMax) / kRows * kRows);
  next.hand_over = options_.can_hand_over && next.classes == kNothing;
  if (next.hand_over) next.refuse.clear();
  const std::string state = fmt::format("{} {} {} {}", kinds, next.classes, worse, drafts_.settled_without() ? 0 : 1);
  if (logged_.empty() && next.reason.empty()) logged_ = state;
  constexpr double kWorthTelling = 0.1;
  if (state != logged_ || std::abs(next.share - logged_share_) >= kWorthTelling) {
    tell(sample, next, kinds.contains("sensor") || next.classes < kAllClasses);
    logged_ = state, logged_share_ = next.share;
  }
  settings_ = std::move(next);
}

}  // namespace hearth::power
