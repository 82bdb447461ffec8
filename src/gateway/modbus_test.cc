// Modbus, with pymodbus as the device.
#include <csignal>

#include "support/adapter_harness.h"
#include "support/device.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::Device;
using test::soon;

constexpr std::string_view kRegisters = R"(
[[signal]]
name = "temperature"
[[signal]]
name = "signed"
[[signal]]
name = "total"
[[signal]]
name = "ratio"
[[signal]]
name = "broken"
[[signal]]
name = "alarm"
type = "bool"
[[signal]]
name = "setpoint"
[signal.write]
min = 0
max = 70000
[[signal]]
name = "energy"
[[signal]]
name = "pump"
type = "bool"
[signal.write]
[[signal]]
name = "door"
type = "bool"
[[signal]]
name = "far"
[[adapter]]
type = "modbus"
host = "127.0.0.1"
poll = "20ms"
timeout = "300ms"
pause_max = "300ms"
register = [
  { signal = "temperature", address = 0, form = "i16", scale = 0.1 },
  { signal = "signed", address = 1, form = "i16" },
  { signal = "total", address = 2, form = "u32" },
  { signal = "ratio", address = 4, form = "f32" },
  { signal = "broken", address = 6, form = "f32" },
  { signal = "alarm", address = 8, form = "bit", bit = 2 },
  { signal = "setpoint", address = 9, form = "u16", writable = true },
  { signal = "energy", address = 11, form = "i32", word_order = "low" },
  { signal = "pump", table = "coil", address = 1, writable = true },
  { signal = "door", table = "discrete", address = 0 },
  { signal = "far", table = "input", address = 299 },
]
)";
enum : SignalId { kTemperature, kSigned, kTotal, kRatio, kBroken, kAlarm, kSetpoint, kEnergy, kPump, kDoor, kFar };

std::string profile(int port) { return std::string(kRegisters) + "port = " + std::to_string(port) + "\n"; }

TEST(Modbus, EveryTableAndFormIsRead) {
  const int port = test::free_port();
  const Device device("modbus_device.py", {std::to_string(port)}, port);
  const AdapterHarness gateway(profile(port));
  ASSERT_TRUE(soon([&] { return !gateway.samples(kDoor).empty(); })) << gateway.adapter().figures().state;
  const std::vector<std::pair<SignalId, Value>> expected = {
      {kTemperature, 215 * 0.1}, {kSigned, -10.0},    {kTotal, 100000.0}, {kRatio, 1.5}, {kAlarm, true},
      {kSetpoint, 50.0},         {kEnergy, -70000.0}, {kPump, false},     {kDoor, true}, {kFar, 1299.0}};
  for (const auto& [id, value] : expected) {
    EXPECT_EQ(gateway.samples(id)[0].value, value) << gateway.profile().signals[id].name;
    EXPECT_EQ(gateway.samples(id)[0].quality, Quality::kGood);
  }
  EXPECT_EQ(gateway.samples(kBroken)[0].quality, Quality::kBad);  // NaN
}

// OpenPLC_v3 #324, mbusd #117: nothing reaches a device but what the profile lists, in its range, however the guard was tricked.
TEST(Modbus, OnlyListedRegistersAreWrittenAndWhatIsWrittenIsReadBack) {
  const int port = test::free_port();
  const Device device("modbus_device.py", {std::to_string(port)}, port);
  const AdapterHarness gateway(profile(port));
  ASSERT_TRUE(gateway.connected());
  for (SignalId id = 0; id < 1000; id++)
    if (id != kSetpoint && id != kPump) {
      EXPECT_EQ(gateway.adapter().write({id, 1.0}).error().code, Code::kNotFound);
    }
  for (const double value :
       {-1.0, 65536.0, 1e300, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    EXPECT_EQ(gateway.adapter().write({kSetpoint, value}).error().code, Code::kInvalidArgument) << value;
  EXPECT_EQ(gateway.adapter().write({kSetpoint, true}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(gateway.adapter().write({kSetpoint, std::string("60")}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(device.said(), "");

  ASSERT_TRUE(gateway.adapter().write({kSetpoint, 60.0}).has_value());
  EXPECT_EQ(gateway.samples(kSetpoint).back().value, Value(60.0));
  ASSERT_TRUE(gateway.adapter().write({kPump, true}).has_value());
  EXPECT_EQ(gateway.samples(kPump).back().value, Value(true));
  ASSERT_TRUE(soon([&] { return device.said() == "write by 6 at 9\nwrite by 5 at 1\n"; })) << device.said();
}

// The same over a serial line, which is a pair of pseudo-terminals here.
TEST(Modbus, ASerialLineIsReadAndWritten) {
  const Device device("modbus_device.py", {"pty"});
  ASSERT_TRUE(soon([&] { return !test::between(device.said(), "at ", "\n").empty(); })) << device.said();
  std::string text(kRegisters);
  text.replace(text.find("host = \"127.0.0.1\""), 18,
               "device = \"" + test::between(device.said(), "at ", "\n") + "\"\nparity = \"N\"");
  const AdapterHarness gateway(text);
  ASSERT_TRUE(soon([&] { return !gateway.samples(kDoor).empty(); })) << gateway.adapter().figures().state;
  EXPECT_EQ(gateway.samples(kTemperature)[0].value, Value(215 * 0.1));
  EXPECT_EQ(gateway.samples(kEnergy)[0].value, Value(-70000.0));
  EXPECT_EQ(gateway.samples(kFar)[0].value, Value(1299.0));
  const auto written = gateway.adapter().write({kSetpoint, 60.0});
  ASSERT_TRUE(written.has_value()) << written.error().message;
  ASSERT_TRUE(gateway.adapter().write({kPump, true}).has_value());
  EXPECT_EQ(gateway.samples(kPump).back().value, Value(true));
  EXPECT_NE(device.said().find("write by 6 at 9\nwrite by 5 at 1\n"), std::string::npos) << device.said();
}

// thingsboard-gateway #2132: polling goes on after every outage: the PLC restarts, or (a stopped process) its cable is pulled and its
// connections hang.
TEST(Modbus, Peer2132PollingComesBackAfterARestartAndAfterAPulledCable) {
  const int port = test::free_port();
  auto device = std::make_unique<Device>("modbus_device.py", std::vector{std::to_string(port)}, port);
  const AdapterHarness gateway(profile(port));
  ASSERT_TRUE(soon([&] { return !gateway.samples(kDoor).empty(); }));
  const auto back = [&] {
    const size_t before = gateway.samples(kDoor).size();
    return soon([&] { return gateway.samples(kDoor).size() > before + 1 && !gateway.away(kDoor); });
  };
  device.reset();
  ASSERT_TRUE(soon([&] { return gateway.away(kDoor) && gateway.away(kTemperature); }));
  EXPECT_EQ(gateway.adapter().write({kSetpoint, 60.0}).error().code, Code::kIo);
  device = std::make_unique<Device>("modbus_device.py", std::vector{std::to_string(port)}, port);
  ASSERT_TRUE(back()) << gateway.adapter().figures().state;
  device->signal(SIGSTOP);
  ASSERT_TRUE(soon([&] { return gateway.away(kDoor); }));
  device->signal(SIGCONT);
  ASSERT_TRUE(back()) << gateway.adapter().figures().state;
  EXPECT_GT(gateway.adapter().figures().reconnects, 1U);
}

TEST(Modbus, ABlockThatTheDeviceRefusesIsBadAndTheOthersAreRead) {
  const int port = test::free_port();
  const Device device("modbus_device.py", {std::to_string(port)}, port);
  std::string text = profile(port);
  text.replace(text.find("address = 299"), 13, "address = 900");
  const AdapterHarness gateway(text);
  ASSERT_TRUE(soon([&] { return !gateway.samples(kFar).empty() && gateway.samples(kDoor).size() > 2; }));
  EXPECT_EQ(gateway.samples(kFar).back().quality, Quality::kBad);
  EXPECT_EQ(gateway.samples(kDoor).back().quality, Quality::kGood);
}

// A device gone mad: no crash, and it is polled still.
TEST(Modbus, NoiseInsteadOfFramesNeitherCrashesNorEndsPolling) {
  const int port = test::free_port();
  const Device device("modbus_device.py", {std::to_string(port), "7"}, port);
  std::string text = profile(port);
  text.replace(text.find("\"300ms\""), 7, "\"20ms\"");
  text.replace(text.find("pause_max = \"300ms\""), 19, "pause_max = \"20ms\"");
  const AdapterHarness gateway(text);
  EXPECT_TRUE(soon([&] {
    return gateway.adapter().figures().reconnects > 30 && gateway.adapter().figures().received > 30;
  })) << gateway.adapter().figures().reconnects
      << " " << gateway.adapter().figures().received;
}

TEST(Modbus, AProfileThatCouldDoHarmIsRefusedWithLineAndRemedy) {
  const auto error = [](std::string_view entry) {
    const std::string text =
        "[[signal]]\nname = \"a\"\n[[signal]]\nname = \"w\"\n[signal.write]\nmin = 0\nmax = 1\n[[adapter]]\ntype = "
        "\"modbus\"\nhost = \"h\"\n[[adapter.register]]\n" +
        std::string(entry);
    const auto parsed = Profile::parse(text, "p.toml");
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_NE(error("signal = \"a\"\naddress = 1\nwritable = true\n").find("p.toml:14: writable: a has no limits"),
            std::string::npos);
  EXPECT_NE(error("signal = \"w\"\naddress = 1\ntable = \"input\"\nwritable = true\n").find("inputs cannot be written"),
            std::string::npos);
  EXPECT_NE(error("signal = \"w\"\naddress = 65535\nform = \"f32\"\n").find("from 0 to 65534"), std::string::npos);
  EXPECT_NE(error("signal = \"w\"\n").find("address: is missing"), std::string::npos);
  EXPECT_NE(
      error("signal = \"w\"\naddress = 1\nfunction = 16\ntable = \"coil\"\n").find("coils are written by 5 or 15"),
      std::string::npos);
  EXPECT_NE(error("signal = \"b\"\naddress = 1\n").find("no signal is called b"), std::string::npos);
  EXPECT_EQ(error("signal = \"w\"\naddress = 1\nwritable = true\n"), "");
}

}  // namespace
}  // namespace hearth::gateway
