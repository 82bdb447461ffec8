// When a machine gives work away that it does for others, and takes it again.
#include "power/overload.h"

#include <gtest/gtest.h>

#include "support/fake_system.h"

namespace hearth::power {
namespace {

class OverloadTest : public testing::Test {
 protected:
  // After so many seconds of this.
  bool after(int seconds, int temperature_c, int battery_percent = 80, std::string_view status = "Charging") {
    system_.zone(0, "x86_pkg_temp", std::to_string(temperature_c * 1000), "passive", "90000");
    system_.battery(std::to_string(battery_percent), status);
    bool is = false;
    for (int i = 0; i < seconds; ++i) is = overload_.update(system_.read());
    return is;
  }
  test::FakeSystem system_;
  Overload overload_{{}};
};

TEST_F(OverloadTest, HeatCountsOnceItLastsAndAPauseOfItDoesNotEndIt) {
  EXPECT_FALSE(after(100, 89));
  EXPECT_FALSE(after(2, 95)) << "a peak";
  EXPECT_FALSE(after(20, 60));
  EXPECT_TRUE(after(5, 91));
  EXPECT_TRUE(after(100, 87)) << "not yet cooler by 5 degrees";
  EXPECT_TRUE(after(20, 60));
  EXPECT_TRUE(after(1, 90));
  EXPECT_TRUE(after(20, 60));
  EXPECT_FALSE(after(15, 60));
}

TEST_F(OverloadTest, ABatteryCountsWhileItIsUsed) {
  EXPECT_FALSE(after(10, 40, 5)) << "it is charged";
  EXPECT_TRUE(after(10, 40, 10, "Discharging"));
  EXPECT_TRUE(after(60, 40, 13, "Discharging"));
  EXPECT_FALSE(after(60, 40, 13, "Charging"));
}

TEST_F(OverloadTest, SensorsThatAreGoneAreNoReason) {
  EXPECT_TRUE(after(10, 95));
  bool is = true;
  for (int i = 0; i < 40; ++i) {
    Sample blind;
    blind.seconds = system_.seconds + i;
    is = overload_.update(blind);
  }
  EXPECT_FALSE(is);
}

}  // namespace
}  // namespace hearth::power
