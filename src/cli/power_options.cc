#include "cli/power_options.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "cli/settings.h"
#include "engine/governed_pacer.h"

namespace hearth::cli {
namespace {

static_assert(power::kAllClasses == kRequestClasses);

// "50" or "50%": 1 to 100.
Result<double> parse_share(std::string_view text) {
  double percent = 0;
  const std::string_view digits = text.substr(0, text.size() - (text.ends_with('%') ? 1 : 0));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), percent);
  if (error != std::errc() || end != digits.data() + digits.size() || !(percent >= 1 && percent <= 100))
    return fail(Code::kInvalidArgument, "--power {}: want a share of the processor, 1% to 100%", text);
  return percent / 100;
}

}  // namespace

void declare_power_options(CLI::App& app, PowerOptions& options) {
  app.add_option(
         "--power", options.share,
         "Use at most this share of the processor time that the threads could have: 50% (the answer is the same)")
      ->capture_default_str();
  app.add_option(
         "--power-profile", options.profile,
         "performance: only what is asked for limits; balanced: stay below the system's own temperatures and keep "
         "15 % of a battery; saver: half the processor, more distance, no batch work on battery")
      ->capture_default_str();
  app.add_option("--max-temp", options.max_temp_c, "Keep the processor below so many degrees Celsius")
      ->check(CLI::Range(30.0, 120.0));
  app.add_option("--battery-floor", options.battery_floor,
                 "On battery, stop before it falls below so many percent; batch work waits earlier")
      ->check(CLI::Range(0.0, 90.0));
  app.add_option("--joules-per-token", options.joules_per_token, "Use fewer threads where a token costs more than this")
      ->check(CLI::Range(1e-6, 1e6));
  app.add_option("--watts-per-core", options.watts_per_core,
                 "What a busy core takes, for estimates where energy cannot be measured")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 100.0));
}

void declare_fallback_option(CLI::App& app, PowerOptions& options) {
  app.add_option(
      "--power-fallback", options.fallback,
      "A smaller model that answers instead while heat, battery or joules leave too little for the one asked "
      "for; the reply names it");
}

void declare_cores_option(CLI::App& app, PowerOptions& options) {
  app.add_option(
         "--cores", options.cores,
         "Of a machine with several kinds: fast: all but the slowest kind; all; auto: those that take the least "
         "energy for a token at nearly full speed, tried out for two seconds")
      ->capture_default_str()
      ->check(CLI::IsMember({"fast", "auto", "all"}));
}

Result<std::shared_ptr<power::Governor>> start_governor(const PowerOptions& options, int n_threads,
                                                        bool may_lower_bits) {
  power::GovernorOptions governor{.watts_per_core = options.watts_per_core};
  governor.policy.profile = TRY(power::parse_profile(options.profile));
  governor.policy.share = TRY(parse_share(options.share));
  governor.policy.n_threads = n_threads > 0 ? n_threads : TRY(thread_count_from_environment());
  governor.policy.may_lower_bits = may_lower_bits;
  governor.policy.has_smaller_model = !options.fallback.empty();
  if (options.max_temp_c > 0) governor.policy.max_temp_c = options.max_temp_c;
  if (options.battery_floor >= 0) governor.policy.battery_floor = options.battery_floor;
  if (options.joules_per_token > 0) governor.policy.joules_per_token = options.joules_per_token;
  return std::shared_ptr(power::Governor::start(std::move(governor)));
}

std::shared_ptr<Pacer> make_pacer(std::shared_ptr<power::Governor> governor) {
  return std::make_shared<GovernedPacer<power::Governor>>(std::move(governor));
}

}  // namespace hearth::cli
