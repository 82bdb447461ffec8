// What the system's files say, and what becomes of files that say nonsense.
#include "power/sensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "power/energy_meter.h"
#include "support/fake_system.h"

namespace hearth::power {
namespace {

using test::FakeSystem;

TEST(Sensors, WithoutAnyEverythingIsAbsentAndNothingIsWrong) {
  FakeSystem system;
  const Sample sample = system.read();
  for (const Reading* reading : {&sample.temperature_c, &sample.trip_c, &sample.joules, &sample.battery_percent,
                                 &sample.battery_watts, &sample.clock, &sample.pressure}) {
    EXPECT_EQ(reading->source, Source::kAbsent);
    EXPECT_EQ(reading->problem, "");
  }
  EXPECT_FALSE(sample.on_battery);
  EXPECT_TRUE(core_classes(system.root()).empty());
}

TEST(Sensors, TheHottestProcessorZoneCountsAndOnlyItsTripPoints) {
  FakeSystem system;
  system.zone(0, "acpitz", "40000");
  system.zone(1, "x86_pkg_temp", "61500", "passive", "95000");
  system.zone(2, "battery", "88000", "passive", "45000");
  system.write("sys/class/hwmon/hwmon0/name", "coretemp\n");
  system.write("sys/class/hwmon/hwmon0/temp2_input", "63000\n");
  system.write("sys/class/hwmon/hwmon0/temp2_crit", "100000\n");
  const Sample sample = system.read();
  EXPECT_EQ(sample.temperature_c.value, 63);
  EXPECT_EQ(sample.temperature_c.source, Source::kMeasured);
  EXPECT_EQ(sample.trip_c.value, 95);
}

TEST(Sensors, AZoneThatWasNeverReadIsNoFaultOneThatIsMissedIs) {
  FakeSystem system;
  system.zone(0, "cpu-thermal", "50000");
  system.zone(1, "soc-thermal", "disabled");
  EXPECT_EQ(system.read().temperature_c.problem, "");
  for (const char* bad : {"nan", "", "999999999", "-300000", "5e4", "50000 C", "99999999999999999999"}) {
    system.zone(0, "cpu-thermal", bad);
    const Sample sample = system.read();
    EXPECT_FALSE(sample.temperature_c.there()) << bad;
    EXPECT_TRUE(sample.temperature_c.problem.contains("thermal_zone0")) << bad << ": " << sample.temperature_c.problem;
  }
  system.zone(0, "cpu-thermal", "51000");
  EXPECT_EQ(system.read().temperature_c.value, 51) << "it comes back";
}

TEST(Sensors, EnergyGoesOnWhereItsCounterBeginsAnewAndJumpsDoNotCount) {
  FakeSystem system;
  system.package("260000000", "262143328850");
  EXPECT_EQ(system.read().joules.value, 0);
  system.package("290000000", "262143328850");
  EXPECT_DOUBLE_EQ(system.read().joules.value, 30);
  system.package("262143328849", "262143328850");  // 262 kJ in a second
  Sample sample = system.read();
  EXPECT_DOUBLE_EQ(sample.joules.value, 30);
  EXPECT_TRUE(sample.joules.problem.contains("jumped")) << sample.joules.problem;
  system.package("19999999", "262143328850");  // over its end: 2 uJ and 20 J
  sample = system.read();
  EXPECT_NEAR(sample.joules.value, 50, 1e-5);
  EXPECT_EQ(sample.joules.problem, "");
}

TEST(Sensors, EnergyThatOnlyRootMayReadIsAbsentAndSaidSo) {
  FakeSystem system;
  system.package("1000000", "262143328850");
  std::filesystem::permissions(system.root() / "sys/class/powercap/intel-rapl:0/energy_uj",
                               std::filesystem::perms::none);
  const bool root = ::geteuid() == 0;
  ASSERT_EQ(root ? ::seteuid(65534) : 0, 0);
  const Sample sample = system.read();
  ASSERT_EQ(root ? ::seteuid(0) : 0, 0);
  EXPECT_FALSE(sample.joules.there());
  EXPECT_TRUE(sample.joules.problem.contains("ermission denied")) << sample.joules.problem;
}

TEST(Sensors, BatteriesWithAnySignOfTheirCurrent) {
  FakeSystem system;
  system.battery("57", "Discharging", "-1500000", "4000000");
  system.write("sys/class/power_supply/AC/type", "Mains\n");
  system.write("sys/class/power_supply/AC/online", "0\n");
  system.write("sys/class/power_supply/mouse/type", "Battery\n");
  system.write("sys/class/power_supply/mouse/scope", "Device\n");
  system.write("sys/class/power_supply/mouse/capacity", "3\n");
  Sample sample = system.read();
  EXPECT_EQ(sample.battery_percent.value, 57);
  EXPECT_DOUBLE_EQ(sample.battery_watts.value, 6);
  EXPECT_TRUE(sample.on_battery);
  system.battery("58", "Charging", "1500000", "4000000");
  sample = system.read();
  EXPECT_FALSE(sample.on_battery);
  EXPECT_FALSE(sample.battery_watts.there());
  system.battery("101", "Discharging", "0", "4000000");
  sample = system.read();
  EXPECT_FALSE(sample.battery_percent.there());
  EXPECT_TRUE(sample.battery_percent.problem.contains("101")) << sample.battery_percent.problem;
}

TEST(Sensors, ClocksPressureAndProcessorTime) {
  FakeSystem system;
  system.write("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1200000\n");
  system.write("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "2400000\n");
  system.write("proc/pressure/cpu", "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=0.00\n");
  system.write("proc/stat", "cpu  100 200 300 4000 50 6 7 8 9 10\ncpu0 1 1 1 1\n");
  Sensors sensors({.root = system.root()});
  const Sample sample = sensors.read();
  EXPECT_EQ(sample.clock.value, 0.5);
  EXPECT_EQ(sample.pressure.value, 12.5);
  EXPECT_NEAR(sample.busy_cpu_seconds, 613.0 / static_cast<double>(::sysconf(_SC_CLK_TCK)), 1e-9);
  EXPECT_GT(sample.own_cpu_seconds, 0);
  system.write("proc/pressure/cpu", "some avg10=nan");
  system.write("proc/stat", "cpu  garbage");
  const Sample worse = sensors.read();
  EXPECT_FALSE(worse.pressure.there());
  EXPECT_EQ(worse.busy_cpu_seconds, sample.busy_cpu_seconds) << "it may not go back";
}

TEST(Sensors, CoresByTheirCapacity) {
  FakeSystem system;
  for (int cpu = 0; cpu < 8; ++cpu)
    system.write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity", cpu < 4   ? "256"
                                                                                       : cpu < 7 ? "768"
                                                                                                 : "1024");
  const std::vector<CoreClass> classes = core_classes(system.root());
  ASSERT_EQ(classes.size(), 3u);
  EXPECT_EQ(classes[0].cpus, std::vector<int>{7});
  EXPECT_EQ(classes[1].capacity, 0.75);
  EXPECT_EQ(classes[2].cpus, (std::vector<int>{0, 1, 2, 3}));
}

// A process pays for its part of the processor time, and knows when a figure is no measurement.
TEST(EnergyMeter, SharesWhatWasMeasuredAndMarksWhatWasNot) {
  EnergyMeter meter(5);
  Sample sample{.seconds = 1};
  meter.add(sample);
  sample.seconds = 2, sample.own_cpu_seconds = 1, sample.busy_cpu_seconds = 2;
  meter.add(sample);
  EXPECT_DOUBLE_EQ(meter.joules(), 5);
  EXPECT_EQ(meter.source(), Source::kEstimated);
  sample.seconds = 3, sample.joules = {0, Source::kMeasured};
  meter.add(sample);
  for (int i = 0; i < 20; ++i) {
    sample.seconds += 1, sample.own_cpu_seconds += 1, sample.busy_cpu_seconds += 2, sample.joules.value += 30;
    meter.add(sample);
  }
  EXPECT_EQ(meter.source(), Source::kMeasured);
  EXPECT_NEAR(meter.joules_per_cpu_second(), 15, 1e-9);
  EXPECT_NEAR(meter.measured_joules(), 20 * 15, 1e-6);
  sample.joules = {.problem = "permission denied"};
  for (int i = 0; i < 20; ++i) {
    sample.seconds += 1, sample.own_cpu_seconds += 1;
    meter.add(sample);
  }
  EXPECT_EQ(meter.source(), Source::kEstimated);
  EXPECT_NEAR(meter.joules_per_cpu_second(), 15, 1e-9) << "the best guess there is";
}

}  // namespace
}  // namespace hearth::power
