// CoAP, with aiocoap as the device, and the server of libcoap's own programs for DTLS and lost datagrams.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <csignal>
#include <random>

#include "gateway/datagrams.h"
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

// A device gone mad or hostile: answers each datagram with what a test says.
class RawDevice {
 public:
  explicit RawDevice(std::function<std::string(std::string_view request)> answer)
      : socket_(std::move(*listen_for_datagrams("127.0.0.1", 0))), thread_([this, answer](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            wake_.wait(socket_.get(), std::chrono::hours(1));
            std::array<char, 2048> bytes{};
            sockaddr_storage from{};
            socklen_t size = sizeof from;
            const auto n = ::recvfrom(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                                      reinterpret_cast<sockaddr*>(&from), &size);
            if (n < 4) continue;
            const std::string text = answer({bytes.data(), static_cast<size_t>(n)});
            (void)send_datagram(socket_.get(), {reinterpret_cast<char*>(&from), size}, text);
          }
        }) {}
  ~RawDevice() {
    thread_.request_stop();
    wake_.ring();
  }
  [[nodiscard]] std::string profile() const {
    return "[[signal]]\nname = \"a\"\n[[adapter]]\ntype = \"coap\"\nhost = \"127.0.0.1\"\npoll = \"20ms\"\n"
           "timeout = \"50ms\"\nretries = 0\npause_max = \"250ms\"\nresource = [{ signal = \"a\", path = \"a\" "
           "}]\nport = " +
           std::to_string(bound_port(socket_.get())) + "\n";
  }
  // An acknowledgement with the content 2.05: the identifier and the token of the request, then what is given.
  static std::string content(std::string_view request, const std::string& rest) {
    const size_t n_token = std::min<size_t>(request[0] & 15, request.size() - 4);
    return static_cast<char>(0x60 | n_token) + std::string("\x45") + std::string(request.substr(2, 2 + n_token)) + rest;
  }

 private:
  Descriptor socket_;
  Wake wake_;
  std::jthread thread_;
};

// The number of the block that a request asks for.
uint32_t asked_block(std::string_view request) {
  uint32_t option = 0;
  for (size_t at = 4 + (request[0] & 15u); at < request.size() && request[at] != '\xff';) {
    const auto head = static_cast<unsigned char>(request[at++]);
    option += head >> 4;
    if (head >> 4 == 13) option += static_cast<unsigned char>(request[at++]);
    uint32_t value = 0;
    for (size_t n = head & 15; n > 0 && at < request.size(); n--)
      value = value << 8 | static_cast<unsigned char>(request[at++]);
    if (option == 23) return value >> 4;
  }
  return 0;
}

TEST(Coap, ABodyWithoutEndIsGivenUp) {
  std::atomic<uint32_t> asked = 0;
  const RawDevice device([&](std::string_view request) {
    const uint32_t option = asked_block(request) << 4 | 8 | 6;  // Block2: more, 1024 bytes
    asked = option >> 4;
    const std::string rest = {static_cast<char>(0xd3),         10,
                              static_cast<char>(option >> 16), static_cast<char>(option >> 8),
                              static_cast<char>(option),       static_cast<char>(0xff)};
    return RawDevice::content(request, rest + std::string(1024, '9'));
  });
  const AdapterHarness gateway(device.profile());
  EXPECT_TRUE(soon([&] {
    return gateway.adapter().figures().state.find("a sends more than 1048576 bytes") != std::string::npos;
  })) << gateway.adapter().figures().state
      << ", block " << asked;
  EXPECT_TRUE(gateway.samples(0).empty());
}

TEST(Coap, NoiseInsteadOfMessagesNeitherCrashesNorEndsAsking) {
  std::mt19937 random(5);
  const RawDevice device([&](std::string_view request) {
    std::string noise(random() % 200, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    if (random() % 4 == 0) return noise;
    if (random() % 4 == 0)
      return RawDevice::content(request,
                                "\xff"
                                "42");
    std::string answer = RawDevice::content(request, noise);
    if (random() % 2 == 0) answer[random() % answer.size()] = static_cast<char>(random());
    return answer;
  });
  const AdapterHarness gateway(device.profile());
  EXPECT_TRUE(soon([&] {
    return gateway.adapter().figures().reconnects > 3 && gateway.adapter().figures().received > 3;
  })) << gateway.adapter().figures().reconnects
      << " " << gateway.adapter().figures().received;
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
