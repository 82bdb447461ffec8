// The power governor for commands that compute, and the thread between it and engines.
#pragma once

#include <memory>

#include "base/result.h"
#include "engine/pacer.h"
#include "power/governor.h"

namespace CLI {
class App;
}

namespace hearth::cli {

struct PowerOptions {
  std::string profile = "performance", share = "100";
  double max_temp_c = 0, battery_floor = -1, joules_per_token = 0;  // not given
  double watts_per_core = power::kWattsPerCore;
  std::string fallback;        // a smaller model
  std::string cores = "fast";  // or "auto", "all": core_options.h
};

// Declares --power, --power-profile, --max-temp, --battery-floor, --joules-per-token and --watts-per-core.
void declare_power_options(CLI::App& app, PowerOptions& options);
// Declares --power-fallback, for those that have several models.
void declare_fallback_option(CLI::App& app, PowerOptions& options);
// Declares --cores, for commands that answer.
void declare_cores_option(CLI::App& app, PowerOptions& options);
// `n_threads`: that compute; 0: as the environment says. `may_lower_bits`: of models whose precision may be switched.
Result<std::shared_ptr<power::Governor>> start_governor(const PowerOptions& options, int n_threads,
                                                        bool may_lower_bits = false);
// Several engines may have it.
std::shared_ptr<Pacer> make_pacer(std::shared_ptr<power::Governor> governor);

}  // namespace hearth::cli
