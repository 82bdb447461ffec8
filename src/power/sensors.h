// What the system tells of heat, energy, battery and load: files below /sys and /proc, or below another root for tests.
//
// Linux, kernel documentation: thermal/sysfs-api, hwmon/sysfs-interface, power/powercap, power_supply, accounting/psi,
// cpufreq. One thread at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::power {

enum class Source : uint8_t { kAbsent, kEstimated, kMeasured };
std::string_view name(Source source);

// A value, and how far it can be trusted. Never a silent zero.
struct Reading {
  double value = 0;
  Source source = Source::kAbsent;
  std::string problem{};  // what is wrong with it, or with a part of it; empty: nothing, or there is no such thing here
  [[nodiscard]] bool there() const { return source != Source::kAbsent; }
};

struct Sample {
  double seconds = 0;       // when, on a clock that only goes forward
  Reading temperature_c{};  // of the hottest processor zone
  Reading
      headroom{};    // how near the system is to throttling: 1 is where it does so badly; only where somebody tells it
  Reading trip_c{};  // where the first of them makes the system slow down or end
  Reading joules{};  // of all processor packages since these sensors were opened
  Reading battery_percent{};
  Reading battery_watts{};  // that it gives; 0 while it is charged
  bool on_battery = false;
  Reading clock{};     // of the processors, as a part of their highest
  Reading pressure{};  // percent of the last 10 s in which somebody waited for a processor
  double own_cpu_seconds = 0, busy_cpu_seconds = 0;  // of this process; of all of the machine
};

struct SensorsOptions {
  std::filesystem::path root = "/";
  std::function<double()> now{};      // empty: the monotonic clock
  std::function<double()> own_cpu{};  // empty: this process's processor time, of all threads
};

class Sensors {
 public:
  explicit Sensors(SensorsOptions options = {});
  // Reads some 20 small files: tens of microseconds.
  Sample read();
  // Any thread.
  [[nodiscard]] double now() const { return options_.now(); }
  [[nodiscard]] double own_cpu() const { return options_.own_cpu(); }

 private:
  struct Zone {
    std::filesystem::path file;
    std::string name;
    double trip_c = 0;           // 0: none
    bool has_been_read = false;  // then it is wrong if it cannot be
  };
  struct Package {
    std::filesystem::path file;
    double range_uj = 0, last_uj = -1, joules = 0;
    std::string problem{};
  };
  void find();
  void find_thermal_zones();
  void find_hwmon();
  void find_packages();
  void read_temperature(Sample& sample);
  void read_energy(Sample& sample);
  void read_battery(Sample& sample);
  void read_clock(Sample& sample);

  SensorsOptions options_;
  std::vector<Zone> zones_;
  std::vector<Package> packages_;
  std::vector<std::filesystem::path> clocks_;
  double found_at_ = 0, energy_at_ = 0, busy_seconds_ = 0;
  bool had_battery_ = false, had_energy_ = false;
};

// Cores that are alike, as the system ranks them (cpu_capacity, or else their highest clock).
struct CoreClass {
  double capacity = 0;  // of the fastest: 1
  std::vector<int> cpus;
};
// Fastest first; empty if the system does not tell.
std::vector<CoreClass> core_classes(const std::filesystem::path& root = "/");

}  // namespace hearth::power
