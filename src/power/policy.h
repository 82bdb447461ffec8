// What the engines may do: a pure function of samples and of what came before, in the samples' time. One thread.
//
// Each rule says which share of the processor it allows and which classes of requests; the strictest holds, and says why. They act from
// harmless to costly: a smaller share in smaller chunks, fewer threads, fewer bits and then a smaller model (only where these are allowed),
// batch work waits, another machine takes over, all work waits and new requests are refused with the reason.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "power/draft_choice.h"
#include "power/heat_model.h"
#include "power/sensors.h"
#include "power/thread_choice.h"

namespace hearth::power {

// Performance: only what is asked for holds. Balanced: keeps below the system's own limits and some of a battery, and lets other programs go first. Saver: half the
// processor, more distance, and no batch work on battery.
enum class Profile : uint8_t { kPerformance, kBalanced, kSaver };
std::string_view name(Profile profile);
Result<Profile> parse_profile(std::string_view name);

struct PolicyOptions {
  Profile profile = Profile::kPerformance;
  double share = 1;                       // of the processor time that the compute threads could have: above 0, to 1
  std::optional<double> max_temp_c{};     // default: by profile, from the trip points
  std::optional<double> battery_floor{};  // percent; default: by profile
  std::optional<double> joules_per_token{};
  bool may_lower_bits = false;     // quality may suffer
  bool has_smaller_model = false;  // as here
  bool can_hand_over = false;      // there is somebody to take over
  int n_threads = 1;               // that compute
};

// Of the classes of requests (real-time, interactive, batch) so many run, the most urgent ones.
inline constexpr int kAllClasses = 3, kNoBatch = 2, kNothing = 0;

// Where a sensor that is needed cannot be trusted.
inline constexpr double kSafeShare = 0.25;

struct Settings {
  double share = 1;
  int classes = kAllClasses;
  int threads = 0;             // 0: all
  int bits = 8;                // 4: of models that have a low precision
  bool smaller_model = false;  // answers new requests
  int prefill_max = 1 << 20;   // tokens of a chunk of prompts
  int drafts_max = -1;         // guessed tokens for a sequence in a step; -1: as many as pay
  bool hand_over = false;
  std::string refuse{};  // why new requests are refused; empty: they are not
  std::string reason{};  // of what limits; empty: nothing does
};

// What the engines did since the last sample.
struct Work {
  double tokens = 0, joules = 0;
  double generated = 0, generating_cpu_seconds = 0;  // by steps that did nothing else
  double drafted = 0;                                // guesses that were run for them
};

struct LogEntry {
  double seconds = 0;
  std::string text;
  bool grave = false;  // something is wrong, or work waits
};

class Policy {
 public:
  explicit Policy(PolicyOptions options);
  // About once a second.
  const Settings& decide(const Sample& sample, const Work& work);
  // So many compute from now on.
  void use_threads(int n_threads);
  // Goes to the log.
  void note(LogEntry entry);

  [[nodiscard]] const PolicyOptions& options() const { return options_; }
  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] const HeatModel& heat() const { return heat_; }
  [[nodiscard]] std::optional<double> limit_c() const { return limit_c_; }      // that is kept
  [[nodiscard]] double aim_c() const { return aim_c_; }                         // below that, with a limit
  [[nodiscard]] std::optional<double> floor_percent() const { return floor_; }  // as well
  [[nodiscard]] double joules_per_token() const { return joules_per_token_; }   // 0: not known yet
  // Decisions that changed something, the last kLogMax.
  [[nodiscard]] const std::deque<LogEntry>& log() const { return log_; }
  static constexpr size_t kLogMax = 64;

 private:
  struct Rule {
    double share = 1;
    int classes = kAllClasses, threads = 0;
    int worse = 0;            // so many of the ways that cost quality are taken, of those that are allowed
    std::string_view kind{};  // empty: the rule has nothing to say
    std::string reason{}, refuse{};
  };
  Rule heat_rule(const Sample& sample, double other_load);
  [[nodiscard]] int worse_max() const { return options_.may_lower_bits + options_.has_smaller_model; }
  Rule headroom_rule(const Sample& sample);
  Rule pressure_rule(const Sample& sample, double other_load);
  Rule battery_rule(const Sample& sample);
  Rule energy_rule(const Sample& sample, const Work& work);
  void watch_sensor(const Sample& sample, double load);
  void follow_battery(const Sample& sample);
  void tell(const Sample& sample, const Settings& next, bool grave);
  void apply(const Sample& sample, std::initializer_list<Rule> rules);

  PolicyOptions options_;
  std::optional<double> floor_{}, limit_c_{};
  Settings settings_;
  std::deque<LogEntry> log_;
  std::string logged_{};
  double logged_share_ = 1;
  std::optional<Sample> last_{};

  HeatModel heat_;
  ThreadChoice threads_;
  DraftChoice drafts_;
  double aim_c_ = 0, heat_share_ = 0;              // that heat last allowed, 0: nothing yet; goes up slowly
  double fewer_threads_at_ = -1e9, worse_at_ = 0;  // when heat last changed them
  int heat_worse_ = 0;
  bool too_hot_ = false, had_temperature_ = false;
  double step_c_ = 2,
         expected_c_ = 0;  // the least that the sensor was seen to move by; all that the model has moved by
  struct Same {            // a sensor's value that does not change, and what would have been expected meanwhile
    double value = 0, low_c = 0, high_c = 0, low_load = 0, high_load = 0, load_moved_at = -1;
    bool moved_before = false, stuck = false;
  } same_{};
  std::string fault_;
  double fault_at_ = 0;

  double percent_ = 100, percent_at_ = 0, drain_ = 0;  // the battery: percent as last read, when, percent per second
  double yield_share_ = 1, headroom_share_ = 1;        // that others' waiting and the system's headroom left
  bool had_battery_ = false, on_battery_ = false;
  int battery_classes_ = kAllClasses;
  double joules_per_token_ = 0, tokens_ = 0, joules_ = 0, rung_at_ = 0;
  int rung_ = 0;
};

}  // namespace hearth::power
