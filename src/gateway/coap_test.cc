// CoAP, with aiocoap as the device, and the server of libcoap's own programs for DTLS and lost datagrams.
#include <gtest/gtest.h>

#include <csignal>

#include "gateway/gateway.h"
#include "support/adapter_harness.h"
#include "support/device.h"
#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::Device;
using test::soon;

constexpr std::string_view kResources = R"(
[[signal]]
name = "count"
[[signal]]
name = "lamp"
type = "bool"
[signal.write]
[[signal]]
name = "level"
[signal.write]
min = 0
max = 100
[[signal]]
name = "plain"
[[signal]]
name = "temp"
[[signal]]
name = "on"
type = "bool"
[signal.write]
[[signal]]
name = "record"
[[signal]]
name = "mode"
type = "text"
[signal.write]
allowed = ["eco", "boost"]
[[signal]]
name = "long"
[[signal]]
name = "cbor"
[[signal]]
name = "missing"
[[adapter]]
type = "coap"
host = "127.0.0.1"
poll = "50ms"
renew = "500ms"
timeout = "200ms"
retries = 1
pause_max = "300ms"
resource = [
  { signal = "count", path = "/dev/count", scale = 2, offset = 1000 },
  { signal = "lamp", path = "/dev/lamp", on = "on", off = "off", writable = true },
  { signal = "level", path = "/dev/level?unit=percent&x", writable = true, method = "post" },
  { signal = "plain", path = "dev/plain" },
  { signal = "temp", path = "/dev/state", pointer = "/temp", scale = 0.1 },
  { signal = "on", path = "/dev/state", pointer = "/on", writable = true, key = "on" },
  { signal = "record", path = "/dev/pack", record = "urn:dev:t" },
  { signal = "mode", path = "/dev/pack", record = "urn:dev:mode", writable = true },
  { signal = "long", path = "/dev/long", pointer = "/value" },
  { signal = "cbor", path = "/dev/cbor" },
  { signal = "missing", path = "/dev/missing" },
]
)";
enum : SignalId { kCount, kLamp, kLevel, kPlain, kTemp, kOn, kRecord, kMode, kLong, kCbor, kMissing };

std::string profile(int port, const std::string& more = "") {
  return std::string(kResources) + "port = " + std::to_string(port) + "\n" + more;
}

std::unique_ptr<Device> device_on(int port) {
  auto device = std::make_unique<Device>("coap_device.py", std::vector{std::to_string(port)});
  EXPECT_TRUE(soon([&] { return device->said().find("ready") != std::string::npos || !device->running(); }));
  EXPECT_TRUE(device->running()) << device->said();
  return device;
}

TEST(Coap, EveryFormIsReadAndWhatCannotBeReadIsBad) {
  const int port = test::free_port();
  const auto device = device_on(port);
  const AdapterHarness gateway(profile(port));
  for (const SignalId id : {kCount, kLamp, kLevel, kPlain, kTemp, kOn, kMode, kLong, kCbor, kMissing})
    ASSERT_TRUE(soon([&] { return !gateway.samples(id).empty(); }))
        << gateway.profile().signals[id].name << ": " << gateway.adapter().figures().state;
  const std::vector<std::pair<SignalId, Value>> expected = {
      {kLamp, false}, {kLevel, 20.0}, {kPlain, 1.0}, {kTemp, 21.5 * 0.1}, {kOn, true}, {kMode, std::string("eco")},
      {kLong, 7.0}};
  for (const auto& [id, value] : expected) {
    EXPECT_EQ(gateway.samples(id)[0].value, value) << gateway.profile().signals[id].name;
    EXPECT_EQ(gateway.samples(id)[0].quality, Quality::kGood);
  }
  EXPECT_EQ(gateway.samples(kCbor)[0].quality, Quality::kBad);
  EXPECT_EQ(gateway.samples(kMissing)[0].quality, Quality::kBad);
  ASSERT_GE(gateway.samples(kRecord).size(), 2U);  // SenML: two records of one name, with the base values
  EXPECT_EQ(gateway.samples(kRecord)[0].value, Value(21.5));
  EXPECT_EQ(gateway.samples(kRecord)[0].time_ms, 1'700'000'000'000);
  EXPECT_EQ(gateway.samples(kRecord)[1].value, Value(22.5));
  EXPECT_EQ(gateway.samples(kRecord)[1].time_ms, 1'700'000'010'000);
}

// Each change comes by itself, in its order; what cannot be observed is asked for.
TEST(Coap, ObservedResourcesTellTheirChanges) {
  const int port = test::free_port();
  const auto device = device_on(port);
  std::string text = profile(port);
  text.replace(text.find("renew = \"500ms\""), 15, "renew = \"1h\"");  // so that only notifications bring values
  const AdapterHarness gateway(text);
  ASSERT_TRUE(soon([&] { return gateway.samples(kCount).size() > 20 && gateway.samples(kPlain).size() > 5; }));
  double last = -1;
  for (const Sample& sample : gateway.samples(kCount)) {
    EXPECT_GE(std::get<double>(sample.value), 1000);
    EXPECT_GE(std::get<double>(sample.value), last);
    last = std::get<double>(sample.value);
  }
  EXPECT_LT(gateway.samples(kLamp).size(), 3U);  // nothing changed, so nothing was said
}

TEST(Coap, OnlyListedResourcesAreWrittenAndTheDeviceSaysWhatCameOfIt) {
  const int port = test::free_port();
  const auto device = device_on(port);
  const AdapterHarness gateway(profile(port));
  ASSERT_TRUE(gateway.connected());
  for (SignalId id = 0; id < 1000; id++)
    if (id != kLamp && id != kLevel && id != kOn && id != kMode) {
      EXPECT_EQ(gateway.adapter().write({id, 1.0}).error().code, Code::kNotFound);
    }
  EXPECT_EQ(gateway.adapter().write({kLevel, true}).error().code, Code::kInvalidArgument);
  const auto written = [&](SignalId id, const Value& value) {
    const auto result = gateway.adapter().write({id, value});
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message);
    EXPECT_TRUE(soon([&] { return !gateway.samples(id).empty() && gateway.samples(id).back().value == value; }));
  };
  written(kLamp, true);
  written(kLevel, 55.5);
  written(kOn, false);
  written(kMode, std::string("boost"));
  const auto refused = gateway.adapter().write({kLevel, 95.0});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("answered 4.00"), std::string::npos) << refused.error().message;
  for (const char* line :
       {"PUT lamp 0 on ()\n", "POST level 0 55.5 ('unit=percent', 'x')\n", "PUT state 50 {\"on\":false} ()\n",
        "PUT pack 110 [{\"n\":\"urn:dev:mode\",\"vs\":\"boost\"}] ()\n"})
    EXPECT_NE(device->said().find(line), std::string::npos) << line << device->said();
}

// The device restarts and knows of no observation, or it hangs: its signals are away, then all is asked for again.
TEST(Coap, ObservationsComeBackAfterARestartAndAfterAPulledCable) {
  const int port = test::free_port();
  auto device = device_on(port);
  const AdapterHarness gateway(profile(port));
  ASSERT_TRUE(soon([&] { return gateway.samples(kCount).size() > 3; }));
  const auto back = [&] {
    const size_t before = gateway.samples(kCount).size();
    return soon([&] { return gateway.samples(kCount).size() > before + 5 && !gateway.away(kCount); });
  };
  device.reset();
  ASSERT_TRUE(soon([&] { return gateway.away(kCount) && gateway.away(kLamp); }));
  EXPECT_EQ(gateway.adapter().write({kLamp, true}).error().code, Code::kIo);
  device = device_on(port);
  ASSERT_TRUE(back()) << gateway.adapter().figures().state;
  device->signal(SIGSTOP);
  EXPECT_EQ(gateway.adapter().write({kLamp, true}).error().code, Code::kIo);  // not answered
  ASSERT_TRUE(soon([&] { return gateway.away(kCount); }));
  device->signal(SIGCONT);
  ASSERT_TRUE(back()) << gateway.adapter().figures().state;
  EXPECT_GT(gateway.adapter().figures().reconnects, 1U);
}

TEST(Coap, ABodyWithoutEndIsGivenUp) {
  const int port = test::free_port();
  const auto device = device_on(port);
  std::string text = profile(port);
  text.replace(text.find("/dev/cbor"), 9, "/dev/endless");
  const AdapterHarness gateway(text);
  EXPECT_TRUE(soon([&] {
    return gateway.adapter().figures().state.find("dev/endless sends more than 1048576 bytes") != std::string::npos;
  })) << gateway.adapter().figures().state;
  EXPECT_TRUE(gateway.samples(kCbor).empty());
}

// libcoap's server, one in three of whose datagrams is lost: the library sends again, and nothing is given up for it.
TEST(Coap, LostDatagramsAreSentAgain) {
  const int port = test::free_port();
  const test::Program server(
      {"/usr/bin/coap-server-openssl", "-A", "127.0.0.1", "-p", std::to_string(port), "-d", "10", "-l", "30%"}, {});
  const AdapterHarness gateway(
      "[[signal]]\nname = \"a\"\n[signal.write]\nmin = 0\nmax = 100\n[[signal]]\nname = \"time\"\ntype = \"text\"\n"
      "[[adapter]]\ntype = \"coap\"\nhost = \"127.0.0.1\"\ntimeout = \"50ms\"\nretries = 8\npoll = \"20ms\"\n"
      "resource = [{ signal = \"a\", path = \"example_data\", writable = true }, { signal = \"time\", path = \"time\" "
      "}]\n"
      "port = " +
      std::to_string(port) + "\n");
  ASSERT_TRUE(soon([&] { return gateway.samples(1).size() > 2; })) << gateway.adapter().figures().state;
  for (const double value : {1.0, 2.5, 99.0}) {
    const auto written = gateway.adapter().write({0, value});
    ASSERT_TRUE(written.has_value()) << written.error().message;
    EXPECT_TRUE(soon([&] { return !gateway.samples(0).empty() && gateway.samples(0).back().value == Value(value); }));
  }
}

TEST(Coap, DtlsWithTheRightKeyWorksAndWithAnotherDoesNot) {
  const int port = test::free_port();
  const TestFolder folder;
  folder.write("right", "secret-of-the-plant\n");
  folder.write("wrong", "secret-of-another\n");
  const test::Program server({"/usr/bin/coap-server-openssl", "-A", "127.0.0.1", "-p", std::to_string(port), "-k",
                              "secret-of-the-plant", "-h", "plant"},
                             {});
  const auto text = [&](const std::string& key) {
    return "[[signal]]\nname = \"time\"\ntype = \"text\"\n[[adapter]]\ntype = \"coap\"\nhost = \"127.0.0.1\"\n"
           "timeout = \"200ms\"\nretries = 1\npause_max = \"300ms\"\npoll = \"50ms\"\npsk_identity = \"gateway\"\n"
           "psk_file = \"" +
           (folder.path() / key).string() +
           "\"\nresource = [{ signal = \"time\", path = \"time\" }]\n"
           "port = " +
           std::to_string(port + 1) + "\n";
  };
  {
    const AdapterHarness gateway(text("right"));
    ASSERT_TRUE(soon([&] { return gateway.samples(0).size() > 1; })) << gateway.adapter().figures().state;
  }
  const AdapterHarness gateway(text("wrong"));
  ASSERT_TRUE(soon([&] { return gateway.away(0); })) << gateway.adapter().figures().state;
  EXPECT_TRUE(gateway.samples(0).empty());
}

TEST(Coap, AProfileThatCouldDoHarmIsRefusedWithLineAndRemedy) {
  const auto error = [](const std::string& entry, const std::string& more = "") {
    const auto parsed = Profile::parse(
        "[[signal]]\nname = \"a\"\n[[signal]]\nname = \"w\"\n[signal.write]\nmin = 0\nmax = 1\n[[adapter]]\ntype = "
        "\"coap\"\nhost = \"h\"\n" +
            more + "[[adapter.resource]]\n" + entry,
        "p.toml");
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_NE(error("signal = \"a\"\npath = \"x\"\nwritable = true\n").find("p.toml:14: writable: a has no limits"),
            std::string::npos);
  EXPECT_NE(error("signal = \"w\"\npath = \"x\"\nwritable = true\nscale = 2\n").find("without scale"),
            std::string::npos);
  EXPECT_NE(error("signal = \"a\"\n").find("path: is missing"), std::string::npos);
  EXPECT_NE(error("signal = \"a\"\npath = \"x\"\nread = false\n").find("does nothing"), std::string::npos);
  EXPECT_NE(error("signal = \"a\"\npath = \"x\"\npointer = \"/a\"\nrecord = \"b\"\n").find("without pointer"),
            std::string::npos);
  EXPECT_NE(error("signal = \"a\"\npath = \"" + std::string(256, 'x') + "\"\n").find("255 bytes"), std::string::npos);
  EXPECT_NE(error("signal = \"a\"\npath = \"x\"\nmethod = \"patch\"\n").find("\"put\" or \"post\""), std::string::npos);
  EXPECT_NE(error("signal = \"a\"\npath = \"x\"\n", "psk_identity = \"me\"\n").find("goes with psk_file"),
            std::string::npos);
  EXPECT_EQ(error("signal = \"w\"\npath = \"x\"\nwritable = true\n"), "");
}

}  // namespace
}  // namespace hearth::gateway
