// `hearth power`: what the sensors of this machine say and what the policy makes of it; or what a server's does.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/json.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/power_options.h"
#include "cli/settings.h"
#include "net/http_transfer.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;

struct ViewOptions {
  PowerOptions power;
  std::string server;
  int count = 0;  // 0: for ever on a terminal, else once
  double interval = 1;
  bool json = false;
};

std::string number(const json::value& value) {
  if (const double* real = value.if_double()) return fmt::format("{:.4g}", *real);
  return value.is_string() ? std::string(value.get_string()) : json::serialize(value);
}

std::string shown(const json::value& reading, std::string_view unit) {
  const json::object& fields = reading.as_object();
  std::string text(fields.at("source").as_string());
  if (!fields.at("value").is_null()) text = fmt::format("{} {} ({})", number(fields.at("value")), unit, text);
  if (const json::value* problem = fields.if_contains("problem"))
    text += fmt::format("; {}", std::string_view(problem->as_string()));
  return text;
}

// A server may be of another version: what is missing is an error, not a crash.
Result<std::string> view(const json::object& state) {
  try {
    const json::object &sensors = state.at("sensors").as_object(), &settings = state.at("settings").as_object(),
                       &energy = state.at("energy").as_object(), &heat = state.at("heat").as_object();
    std::vector<std::vector<std::string>> rows;
    rows.push_back({"profile", number(state.at("profile"))});
    rows.push_back({"allowed", fmt::format("{:.0f} % of the processor, {} threads; runs {}",
                                           100 * settings.at("share").to_number<double>(),
                                           number(settings.at("threads")), number(settings.at("runs")))});
    const std::string why = number(settings.at("reason"));
    rows.push_back({"because", why.empty() ? "nothing limits" : why});
    rows.push_back({"temperature", shown(sensors.at("temperature_c"), "C")});
    rows.push_back({"limit", heat.at("limit_c").is_null() ? "none" : number(heat.at("limit_c")) + " C"});
    rows.push_back({"trip point", shown(sensors.at("trip_c"), "C")});
    rows.push_back({"battery", shown(sensors.at("battery_percent"), "%")});
    rows.push_back({"battery gives", shown(sensors.at("battery_watts"), "W")});
    rows.push_back({"packages", shown(sensors.at("package_joules"), "J")});
    rows.push_back({"clock", shown(sensors.at("clock_share"), "of the highest")});
    rows.push_back({"pressure", shown(sensors.at("cpu_pressure_percent"), "%")});
    rows.push_back({"this process", fmt::format("{} J, {} W, {} J a token ({})", number(energy.at("joules")),
                                                number(energy.at("watts")), number(energy.at("joules_per_token")),
                                                number(energy.at("source")))});
    for (const json::value& entry : state.at("decisions").as_array())
      rows.push_back(
          {fmt::format("{:.0f} s ago", entry.at("seconds_ago").to_number<double>()), number(entry.at("text"))});
    return table(rows);
  } catch (const std::exception& error) {
    return fail(Code::kMalformed, "what the server says of its power has another form: {}", error.what());
  }
}

Result<json::object> state_of_server(const ViewOptions& options) {
  constexpr uint64_t kAnswerBytes = 1 << 20;
  HttpOptions http;
  http.bearer_token = environment("HEARTH_API_KEY");
  const Url url = TRY(parse_url(options.server + "/v1/power"));
  const std::string text = TRY(http_get_text(url, http, kAnswerBytes));
  const json::value value = TRY(parse_json(text));
  if (!value.is_object()) return fail(Code::kMalformed, "{}: no JSON object", options.server);
  return value.get_object();
}

Result<void> watch(ViewOptions& options) {
  std::shared_ptr<power::Governor> governor;
  if (options.server.empty()) governor = TRY(start_governor(options.power, 0));
  const bool live = ::isatty(STDOUT_FILENO) != 0 && !options.json;
  const int count = options.count > 0 ? options.count : live ? 0 : 1;
  InterruptFlag interrupt;
  for (int n = 1;; ++n) {
    const json::object state = governor ? governor->state() : TRY(state_of_server(options));
    if (options.json)
      fmt::print("{}\n", json::serialize(state));
    else
      fmt::print("{}{}", live ? "\x1b[H\x1b[2J" : "", TRY(view(state)));
    std::fflush(stdout);
    if (n == count) return {};
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.interval);
    while (std::chrono::steady_clock::now() < until && !interrupt.raised())
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (interrupt.raised()) return {};
  }
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<ViewOptions>();
  declare_power_options(app, options->power);
  app.add_option("--server", options->server, "Show a server's instead: http://127.0.0.1:8080 (key: HEARTH_API_KEY)");
  app.add_option("--count", options->count, "Looks at it so many times (default: once; on a terminal until Ctrl-C)")
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--interval", options->interval, "Seconds between them")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  app.add_flag("--json", options->json, "Print JSON, one object a line");
  return [options] { return watch(*options); };
}

}  // namespace

extern const Command kPower;
const Command kPower{"power", "show temperature, battery, energy, and what the power policy makes of them",
                     "  hearth power\n"
                     "  hearth power --power-profile balanced --count 10\n"
                     "  hearth power --server http://127.0.0.1:8080 --json",
                     declare};

}  // namespace hearth::cli
