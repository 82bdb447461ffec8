// What every kind of adapter keeps to, whatever its protocol.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/limits.h"
#include "gateway/profile.h"
#include "gateway/sample.h"
#include "support/mqtt_broker.h"
#include "support/program.h"

namespace hearth::gateway {
namespace {

// A profile with one adapter of a kind whose counterpart is not there, and no signal that it could write.
std::string profile(std::string_view kind, const std::string& more = "") {
  const std::string port = "port = " + std::to_string(test::free_port()) + "\n";
  const std::map<std::string, std::string, std::less<>> needs = {
      {"can", "dbc = \"" HEARTH_TEST_DATA "/can/plant.dbc\"\nlisten = \"127.0.0.1:0\"\n"},
      {"coap", "host = \"127.0.0.1\"\n" + port},
      {"http", "listen = \"127.0.0.1:0\"\n"},
      {"mqtt", "host = \"127.0.0.1\"\n" + port},
      {"home_assistant", "host = \"127.0.0.1\"\n" + port},
      {"modbus", "host = \"127.0.0.1\"\n" + port},
      {"sparkplug", "group = \"g\"\nnode = \"n\"\nhost = \"127.0.0.1\"\n" + port}};
  const auto found = needs.find(kind);
  EXPECT_NE(found, needs.end()) << "say here what a profile of kind " << kind << " needs";
  return "[[signal]]\nname = \"a\"\n[signal.write]\nmin = 0\nmax = 1\n[[adapter]]\ntype = \"" + std::string(kind) +
         "\"\n" + (found == needs.end() ? "" : found->second) + more;
}

class EveryAdapter : public testing::TestWithParam<AdapterKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, EveryAdapter, testing::ValuesIn(adapter_kinds().begin(), adapter_kinds().end()),
                         [](const auto& each) { return std::string(each.param.name); });

TEST_P(EveryAdapter, StartsStopsAndStartsAgainWithoutItsCounterpart) {
  auto parsed = Profile::parse(profile(GetParam().name), "p.toml");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  Adapter& adapter = *parsed->adapters.at(0).adapter;
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(adapter
                    .start({.sample = [](const Sample&) {},
                            .request = [](const Write&, std::string_view) {},
                            .confirm = [](std::string_view, std::string_view) {},
                            .away = [](std::span<const SignalId>, bool) {}})
                    .has_value());
    EXPECT_FALSE(adapter.figures().state.empty());
    EXPECT_EQ(adapter.write({0, 1.0}).error().code, Code::kNotFound);  // nothing is listed, so nothing is written
    EXPECT_EQ(adapter.write({4'000'000'000, true}).error().code, Code::kNotFound);
    EXPECT_FALSE(adapter.publish({0, 1.0, 0, Quality::kGood}).has_value());
    EXPECT_FALSE(adapter.publish({4'000'000'000, 1.0, 0, Quality::kGood}).has_value());
    adapter.stop();
    adapter.stop();
    EXPECT_FALSE(adapter.figures().connected);
  }
}

TEST_P(EveryAdapter, AnEntryThatNothingReadsIsRefusedWithItsLine) {
  const auto parsed = Profile::parse(profile(GetParam().name, "hots = 1\n"), "p.toml");
  ASSERT_FALSE(parsed.has_value());
  EXPECT_NE(parsed.error().message.find("hots: nothing reads it"), std::string::npos) << parsed.error().message;
}

TEST_P(EveryAdapter, ParseTakesAnyBytes) {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; i++) {
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    GetParam().parse(bytes);
  }
  GetParam().parse(std::string(limits::kGatewayMessageBytes + 1, '['));
}

// What a profile's mistakes look like to the person who made them.
TEST(Profile, MistakesAreNamedWithLineAndRemedy) {
  const auto error = [](std::string_view text) {
    const auto parsed = Profile::parse(text, "p.toml");
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_EQ(error("[[signal]]\nname = \"a\"\n[[signal]]\nname = \"a\"\n"),
            "p.toml:4: name: a is there twice: names have to differ");
  EXPECT_NE(error("[[signal]]\nname = \"a//b\"\n").find("p.toml:2: name: has to be letters"), std::string::npos);
  EXPECT_NE(
      error("[[signal]]\nname = \"a\"\ntype = \"float\"\n").find("has to be one of \"bool\", \"number\", \"text\""),
      std::string::npos);
  EXPECT_NE(
      error("[[signal]]\nname = \"a\"\n[signal.write]\naction = \"low\"\n").find("can be written only with limits"),
      std::string::npos);
  EXPECT_NE(error("[[signal]]\nname = \"a\"\nmin = 0\nmax = 5\n[signal.write]\nmin = 0\nmax = 9\n")
                .find("p.toml:7: max: is 9, has to be from 0 to 5"),
            std::string::npos);
  EXPECT_NE(error("[[signal]]\nname = \"a\"\ntype = \"text\"\n[signal.write]\n").find("every value is listed"),
            std::string::npos);
  EXPECT_NE(error("[[adapter]]\ntype = \"mqqt\"\n").find("p.toml:2: type: is \"mqqt\", has to be one of"),
            std::string::npos);
  EXPECT_NE(error("[[signal]]\nname = \"a\"\nunt = \"bar\"\n").find("did you mean unit?"), std::string::npos);
  EXPECT_EQ(error("[[signal]]\nname = \"a\"\n[store]\nanything = 1\n"), "");  // others read that
  EXPECT_NE(error("[{\"a\":1}]").find("p.toml:1:"), std::string::npos);       // JSON: toml++ 3.3 would end the program
  EXPECT_NE(Profile::load("/nowhere/p.toml").error().message.find("/nowhere/p.toml"), std::string::npos);
}

// Editors check profiles by the schema of the docs: it has to take what the program takes, and to refuse what that refuses.
TEST(Profile, TheSchemaOfTheDocsTakesWhatTheProgramTakes) {
  const TestFolder folder;
  const std::string docs = HEARTH_TEST_DATA "/../../docs/gateway-profile.schema.json";
  std::vector<std::string> command = {HEARTH_TEST_DATA "/../devices/python", HEARTH_TEST_VENV, "check_schema.py", docs};
  const auto check = [&](const std::string& name, const std::string& text) {
    folder.write(name, text);
    command.emplace_back(Profile::parse(text, name) ? "valid" : "invalid");
    command.push_back((folder.path() / name).string());
  };
  check("all.toml", test::read_whole(HEARTH_TEST_DATA "/../fuzz/corpus/devices/profile"));
  EXPECT_EQ(command.at(4), "valid");
  for (const AdapterKind& kind : adapter_kinds()) check(std::string(kind.name) + ".toml", profile(kind.name));
  for (const AdapterKind& kind : adapter_kinds())
    check(std::string(kind.name) + "_wrong.toml", profile(kind.name, "hots = 1\n"));
  check("unit.toml", "[[signal]]\nname = \"a\"\nunt = \"bar\"\n");
  check("name.toml", "[[signal]]\nname = \"a//b\"\n");
  const test::ProgramResult result = test::run_program(command, {});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST(Profile, ASignalIsReadWhole) {
  const auto parsed = Profile::parse(
      "[[signal]]\nname = \"pump1/valve\"\nlabel = \"Valve\"\nunit = \"%\"\nmin = 0\nmax = 100\nmax_age = "
      "\"10s\"\nclass = \"A\"\n"
      "[signal.write]\nmin = 10\nmax = 90\nstep = 5\nmost_change = 20\nleast_interval = \"10m\"\naction = \"low\"\n",
      "p.toml");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const Signal& signal = parsed->signals.at(0);
  EXPECT_EQ(signal.max_age, std::chrono::seconds(10));
  EXPECT_EQ(signal.record_class, RecordClass::kA);
  EXPECT_EQ(signal.write->most_change, 20);
  EXPECT_EQ(signal.write->least_interval, std::chrono::minutes(10));
  EXPECT_EQ(signal.write->action_class, ActionClass::kLow);
}

TEST(MakeSample, WhatCannotBeIsNotBelieved) {
  Signal signal{.name = "a",
                .label = {},
                .type = SignalType::kNumber,
                .unit = {},
                .min = 0,
                .max = 10,
                .max_age = std::chrono::seconds(5),
                .write = {}};
  const int64_t now = 1'700'000'000'000;
  const auto quality = [&](const std::optional<Value>& value, int64_t time_ms) {
    return make_sample(signal, 0, value, time_ms, now).quality;
  };
  EXPECT_EQ(quality(Value(5.0), now), Quality::kGood);
  EXPECT_EQ(quality(Value(11.0), now), Quality::kOutOfRange);
  EXPECT_EQ(quality(Value(5.0), now - 6000), Quality::kStale);
  EXPECT_EQ(quality(Value(5.0), now + 60'000), Quality::kBad);
  EXPECT_EQ(make_sample(signal, 0, Value(5.0), now + 60'000, now).time_ms,
            now);  // so that it is not the newest for an hour
  EXPECT_EQ(quality(Value(std::numeric_limits<double>::quiet_NaN()), now), Quality::kBad);
  EXPECT_EQ(quality(Value(true), now), Quality::kBad);
  EXPECT_EQ(quality(std::nullopt, now), Quality::kBad);
  signal.type = SignalType::kText;
  EXPECT_EQ(quality(Value(std::string("ok")), now), Quality::kGood);
  for (const std::string& text : {std::string("a\x1b[2J"), std::string("\xff"), std::string("\xc2\x85"),
                                  std::string(limits::kGatewayTextBytes + 1, 'a')})
    EXPECT_EQ(quality(Value(text), now), Quality::kBad);
}

}  // namespace
}  // namespace hearth::gateway
