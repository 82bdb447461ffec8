#include "power/sensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <optional>
#include <system_error>

#include "base/descriptor.h"
#include "base/result.h"

namespace hearth::power {
namespace fs = std::filesystem;
namespace {

constexpr double kFindAgainSeconds = 30;
constexpr size_t kEntriesMax = 256;  // of one folder; more are not looked at
constexpr double kColdest = -40, kHottest = 150;
constexpr double kWattsMax = 2000;  // a counter that says more has jumped

double clock_seconds(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The beginning of a file, without the white space at its end. These files are short and made when they are read.
Result<std::string> read_text(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::array<char, 4096> buffer;
  const ssize_t n = file.get() < 0 ? -1 : ::read(file.get(), buffer.data(), buffer.size());
  if (n < 0)
    return fail(errno == ENOENT ? Code::kNotFound : Code::kIo, "{}: {}", path.string(),
                std::generic_category().message(errno));
  std::string text(buffer.data(), static_cast<size_t>(n));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

// A whole number, as nearly all of these files have it; from `lowest` to `highest`.
Result<double> read_number(const fs::path& path, double scale, double lowest, double highest) {
  const std::string text = TRY(read_text(path));
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Code::kMalformed, "{}: '{:.32}' is no number", path.string(), text);
  const double value = static_cast<double>(number) * scale;
  if (!(value >= lowest && value <= highest)) return fail(Code::kMalformed, "{}: {} cannot be", path.string(), value);
  return value;
}

std::vector<fs::path> entries(const fs::path& folder, std::string_view prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end && found.size() < kEntriesMax;
       at.increment(error))
    if (at->path().filename().string().starts_with(prefix)) found.push_back(at->path());
  std::ranges::sort(found);
  return found;
}

// Zones that heat with the processor. The others (batteries, radios) have limits of their own.
bool is_processor(std::string_view name) {
  constexpr std::array<std::string_view, 13> kParts{"cpu",    "pkg",     "soc",      "core",    "tsens",
                                                    "acpitz", "k10temp", "zenpower", "cluster", "little",
                                                    "big",    "apss",    "package"};
  return std::ranges::any_of(kParts, [&](std::string_view part) { return name.contains(part); });
}

double lower_trip(double a, double b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

}  // namespace

std::string_view name(Source source) {
  return source == Source::kMeasured ? "measured" : source == Source::kEstimated ? "estimated" : "absent";
}

Sensors::Sensors(SensorsOptions options) : options_(std::move(options)) {
  if (!options_.now) options_.now = [] { return clock_seconds(CLOCK_MONOTONIC); };
  if (!options_.own_cpu) options_.own_cpu = [] { return clock_seconds(CLOCK_PROCESS_CPUTIME_ID); };
  find();
}

// What is plugged in and out is seen after a while; what was found before keeps its place in the books.
void Sensors::find() {
  found_at_ = options_.now();
  find_thermal_zones();
  find_hwmon();
  find_packages();
  if (clocks_.empty()) clocks_ = entries(options_.root / "sys/devices/system/cpu/cpufreq", "policy");
}

void Sensors::find_thermal_zones() {
  for (const fs::path& folder : entries(options_.root / "sys/class/thermal", "thermal_zone")) {
    Zone zone{.file = folder / "temp", .name = read_text(folder / "type").value_or("")};
    if (std::ranges::find(zones_, zone.file, &Zone::file) != zones_.end()) continue;
    for (int i = 0; i < 16; ++i) {
      const std::string trip = fmt::format("trip_point_{}_", i);
      const auto type = read_text(folder / (trip + "type"));
      if (!type) break;
      const auto at = read_number(folder / (trip + "temp"), 1e-3, 30, kHottest);
      if (at && (*type == "passive" || *type == "hot" || *type == "critical"))
        zone.trip_c = lower_trip(zone.trip_c, *at);
    }
    zones_.push_back(std::move(zone));
  }
}

void Sensors::find_hwmon() {
  for (const fs::path& folder : entries(options_.root / "sys/class/hwmon", "hwmon")) {
    const std::string chip = read_text(folder / "name").value_or("");
    if (!is_processor(chip)) continue;
    for (int i = 1; i <= 32; ++i) {
      const std::string prefix = fmt::format("temp{}_", i);
      Zone zone{.file = folder / (prefix + "input"), .name = chip};
      std::error_code error;
      if (!fs::exists(zone.file, error)) continue;
      if (std::ranges::find(zones_, zone.file, &Zone::file) != zones_.end()) continue;
      for (const char* limit : {"max", "crit"})
        zone.trip_c = lower_trip(zone.trip_c, read_number(folder / (prefix + limit), 1e-3, 30, kHottest).value_or(0));
      zones_.push_back(std::move(zone));
    }
  }
}

// "intel-rapl:0" is a package; "intel-rapl:0:0" a part of it. AMD has the same names.
void Sensors::find_packages() {
  for (const fs::path& folder : entries(options_.root / "sys/class/powercap", "intel-rapl:")) {
    if (std::ranges::count(folder.filename().string(), ':') != 1) continue;
    if (!read_text(folder / "name").value_or("").starts_with("package")) continue;
    if (std::ranges::find(packages_, folder / "energy_uj", &Package::file) != packages_.end()) continue;
    packages_.push_back({.file = folder / "energy_uj",
                         .range_uj = read_number(folder / "max_energy_range_uj", 1, 0, 1e18).value_or(0)});
  }
}

Sample Sensors::read() {
  Sample sample{.seconds = options_.now()};
  if (sample.seconds - found_at_ >= kFindAgainSeconds) find();
  sample.own_cpu_seconds = options_.own_cpu();
  read_temperature(sample);
  read_energy(sample);
  read_battery(sample);
  read_clock(sample);
  if (const auto stat = read_text(options_.root / "proc/stat"); stat && stat->starts_with("cpu ")) {
    // user nice system idle iowait irq softirq steal, in ticks
    static const double tick = 1.0 / static_cast<double>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
    std::array<double, 8> ticks{};
    const char *at = stat->data() + 4, *end = stat->data() + stat->size();
    for (double& each : ticks) {
      while (at < end && *at == ' ') ++at;
      uint64_t number = 0;
      at = std::from_chars(at, end, number).ptr;
      each = static_cast<double>(number);
    }
    busy_seconds_ =
        std::max(busy_seconds_, tick * (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]));  // may not go back
  }
  sample.busy_cpu_seconds = busy_seconds_;
  if (const auto text = read_text(options_.root / "proc/pressure/cpu")) {
    const size_t at = text->find("some avg10=");
    double value = -1;
    if (at != std::string::npos) std::from_chars(text->data() + at + 11, text->data() + text->size(), value);
    if (value >= 0 && value <= 100)
      sample.pressure = {value, Source::kMeasured};
    else
      sample.pressure.problem = "proc/pressure/cpu: no 'some avg10='";
  }
  return sample;
}

void Sensors::read_temperature(Sample& sample) {
  const bool processors = std::ranges::any_of(zones_, [](const Zone& zone) { return is_processor(zone.name); });
  for (Zone& zone : zones_) {
    if (processors && !is_processor(zone.name)) continue;
    const auto value = read_number(zone.file, 1e-3, kColdest, kHottest);
    if (!value) {  // many zones can never be read, which says nothing; one that could be is missed
      if (zone.has_been_read) sample.temperature_c.problem = value.error().message;
      continue;
    }
    zone.has_been_read = true;
    if (!sample.temperature_c.there() || *value > sample.temperature_c.value) {
      sample.temperature_c.value = *value;
      sample.temperature_c.source = Source::kMeasured;
    }
    if (zone.trip_c > 0) sample.trip_c = {lower_trip(sample.trip_c.value, zone.trip_c), Source::kMeasured};
  }
}

void Sensors::read_energy(Sample& sample) {
  const double passed = std::max(sample.seconds - energy_at_, 1e-3);
  energy_at_ = sample.seconds;
  bool all = !packages_.empty();
  for (Package& package : packages_) {
    const auto now = read_number(package.file, 1, 0, 1e18);
    if (!now) {
      all = false;
      sample.joules.problem = now.error().message;
      package.last_uj = -1;
      continue;
    }
    double used = package.last_uj < 0 ? 0 : *now - package.last_uj;
    if (used < 0) used += package.range_uj + 1;  // it begins anew after its highest value
    package.last_uj = *now;
    if (used >= 0 && used * 1e-6 <= kWattsMax * passed)
      package.joules += used * 1e-6;
    else
      sample.joules.problem = fmt::format("{}: jumped by {} J in {:.1f} s", package.file.string(), used * 1e-6, passed);
    sample.joules.value += package.joules;
  }
  had_energy_ |= all;
  if (all) sample.joules.source = Source::kMeasured;
}

void Sensors::read_battery(Sample& sample) {
  bool mains = false, discharging = false, charging = false;
  for (const fs::path& folder : entries(options_.root / "sys/class/power_supply", "")) {
    const std::string type = read_text(folder / "type").value_or("");
    if (type != "Battery") {
      mains |= read_text(folder / "online").value_or("") == "1";
      continue;
    }
    if (read_text(folder / "scope").value_or("") == "Device") continue;  // a mouse's
    const auto percent = read_number(folder / "capacity", 1, 0, 100);
    if (!percent) {
      sample.battery_percent.problem = percent.error().message;
      continue;
    }
    had_battery_ = true;
    // Of several, the emptiest: it is the first to end.
    if (!sample.battery_percent.there() || *percent < sample.battery_percent.value)
      sample.battery_percent = {*percent, Source::kMeasured, sample.battery_percent.problem};
    const std::string status = read_text(folder / "status").value_or("");
    discharging |= status == "Discharging";
    charging |= status == "Charging" || status == "Full";
    // The sign of a current is each driver's own idea.
    const auto watts = read_number(folder / "power_now", 1e-6, -kWattsMax, kWattsMax);
    const auto amperes = read_number(folder / "current_now", 1e-6, -200, 200);
    const auto volts = read_number(folder / "voltage_now", 1e-6, 0, 1000);
    if (status == "Discharging" && (watts || (amperes && volts)))
      sample.battery_watts = {sample.battery_watts.value + std::abs(watts ? *watts : *amperes * *volts),
                              Source::kMeasured};
  }
  if (had_battery_ && !sample.battery_percent.there() && sample.battery_percent.problem.empty())
    sample.battery_percent.problem = "the battery is not there any more";
  sample.on_battery = had_battery_ && (discharging || (!mains && !charging));
}

void Sensors::read_clock(Sample& sample) {
  double sum = 0;
  int n = 0;
  for (const fs::path& policy : clocks_) {
    const auto now = read_number(policy / "scaling_cur_freq", 1e3, 1, 1e11);
    const auto highest = read_number(policy / "cpuinfo_max_freq", 1e3, 1, 1e11);
    if (now && highest)
      sum += std::min(1.0, *now / *highest), ++n;
    else
      sample.clock.problem = (now ? highest : now).error().message;
  }
  if (n > 0) sample.clock.value = sum / n, sample.clock.source = Source::kMeasured;
}

std::vector<CoreClass> core_classes(const fs::path& root) {
  std::map<double, std::vector<int>, std::greater<>> by_capacity;
  for (const fs::path& folder : entries(root / "sys/devices/system/cpu", "cpu")) {
    const std::string digits = folder.filename().string().substr(3);
    int cpu = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), cpu);
    if (error != std::errc() || end != digits.data() + digits.size()) continue;
    auto capacity = read_number(folder / "cpu_capacity", 1, 1, 1e6);
    if (!capacity) capacity = read_number(folder / "cpufreq/cpuinfo_max_freq", 1, 1, 1e9);
    if (capacity) by_capacity[*capacity].push_back(cpu);
  }
  std::vector<CoreClass> classes;
  for (auto& [capacity, cpus] : by_capacity) {
    std::ranges::sort(cpus);
    classes.push_back({capacity / by_capacity.begin()->first, std::move(cpus)});
  }
  return classes;
}

}  // namespace hearth::power
