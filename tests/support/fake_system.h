// A tree of files as the system shows its sensors in, and a clock.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "power/sensors.h"
#include "support/test_folder.h"

namespace hearth::test {

class FakeSystem {
 public:
  [[nodiscard]] const std::filesystem::path& root() const { return folder_.path(); }
  [[nodiscard]] power::SensorsOptions options() {
    return {.root = root(), .now = [this] { return seconds; }, .own_cpu = [this] { return own_cpu; }};
  }
  // A second later.
  power::Sample read() {
    seconds += 1;
    if (!sensors_) sensors_.emplace(options());
    return sensors_->read();
  }
  void write(const std::string& path, std::string_view text) const {
    if (const auto [place, fresh] = written_.try_emplace(path, text);
        !fresh && std::exchange(place->second, text) == text)
      return;
    folder_.write(path, text);
  }
  void zone(int number, std::string_view type, std::string_view temperature, std::string_view trip = "",
            std::string_view trip_at = "") const {
    const std::string at = "sys/class/thermal/thermal_zone" + std::to_string(number) + "/";
    write(at + "type", type);
    write(at + "temp", std::string(temperature) + "\n");
    if (trip.empty()) return;
    write(at + "trip_point_0_type", trip);
    write(at + "trip_point_0_temp", trip_at);
  }
  void package(std::string_view energy_uj, std::string_view range_uj) const {
    write("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    write("sys/class/powercap/intel-rapl:0/energy_uj", energy_uj);
    write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", range_uj);
  }
  void battery(std::string_view percent, std::string_view status, std::string_view microamperes = "",
               std::string_view microvolts = "") const {
    const std::string at = "sys/class/power_supply/BAT0/";
    write(at + "type", "Battery\n");
    write(at + "capacity", percent);
    write(at + "status", std::string(status) + "\n");
    if (!microamperes.empty()) write(at + "current_now", microamperes);
    if (!microvolts.empty()) write(at + "voltage_now", microvolts);
  }

  double seconds = 0, own_cpu = 0;

 private:
  TestFolder folder_;
  mutable std::map<std::string, std::string> written_{};
  std::optional<power::Sensors> sensors_{};
};

}  // namespace hearth::test
