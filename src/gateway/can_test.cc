// CAN, with python-can and cantools as the others who read the same frames by the same DBC file.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "base/json.h"
#include "base/limits.h"
#include "gateway/datagrams.h"
#include "gateway/dbc.h"
#include "support/adapter_harness.h"
#include "support/program.h"
#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

using test::AdapterHarness;
using test::soon;

const std::string kDbc = HEARTH_TEST_DATA "/can/plant.dbc";

std::vector<std::string> python(std::vector<std::string> arguments) {
  std::vector<std::string> all = {HEARTH_TEST_DATA "/../devices/python", HEARTH_TEST_VENV, "can_read.py"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

// A signal for each of the fields; texts where the name ends in _text.
std::string profile(const std::string& dbc, const std::string& source, const std::vector<std::string>& fields,
                    const std::string& writable = "") {
  std::string signals, entries;
  for (const std::string& each : fields) {
    const size_t dot = each.find('.');
    std::string name = each.substr(dot + 1);
    const bool is_text = name.ends_with("_text");
    if (is_text) name.resize(name.size() - 5);
    const bool write = writable.find(" " + each + " ") != std::string::npos;
    signals += "[[signal]]\nname = \"" + each.substr(0, dot) + "/" + each.substr(dot + 1) + "\"\n" +
               (is_text ? "type = \"text\"\n" : "") +
               (!write    ? ""
                : is_text ? "[signal.write]\nallowed = [\"running\", \"fault\", \"turbo\"]\n"
                          : "[signal.write]\nmin = -1e9\nmax = 1e9\n");
    entries += "[[adapter.field]]\nsignal = \"" + each.substr(0, dot) + "/" + each.substr(dot + 1) +
               "\"\nmessage = \"" + each.substr(0, dot) + "\"\nname = \"" + name + "\"\n" +
               (write ? "writable = true\n" : "");
  }
  return signals + "[[adapter]]\ntype = \"can\"\ndbc = \"" + dbc + "\"\n" + source + entries;
}

std::string random_log(std::mt19937& random, const Dbc& dbc, int frames) {
  std::string log;
  for (int i = 0; i < frames; i++) {
    const DbcMessage& message = dbc.messages[random() % dbc.messages.size()];
    if (message.size == 0) continue;
    CanFrame frame;
    frame.extended = message.key >> 31 != 0;
    frame.id = message.key & 0x1FFFFFFF;
    frame.size = static_cast<uint8_t>(message.size);
    frame.fd = message.size > 8;
    for (size_t at = 0; at < frame.size; at++) frame.data[at] = static_cast<uint8_t>(random());
    if (const DbcSignal* selector = message.selector())
      (void)selector->set(std::span(frame.data).first(frame.size), static_cast<double>(random() % 3));
    log += fmt::format("({}.{:06}) can0 {}\n", 1'700'000'000 + i, i * 1000 % 1'000'000, candump_text(frame));
  }
  return log;
}

// Both read the log; every number, text and time is the same. Says how many were compared.
size_t compare(const std::string& dbc_file, const Dbc& dbc, const std::string& log_file) {
  std::vector<std::string> fields;
  std::map<std::string, SignalId> ids;
  for (const DbcMessage& message : dbc.messages)
    for (const DbcSignal& signal : message.signals)
      for (const bool text : {false, true}) {
        if (text && signal.texts.empty()) continue;
        ids[message.name + "." + signal.name + (text ? "_text" : "")] = static_cast<SignalId>(fields.size());
        fields.push_back(message.name + "." + signal.name + (text ? "_text" : ""));
      }
  const test::ProgramResult others = test::run_program(python({dbc_file, log_file}), {});
  EXPECT_EQ(others.exit_code, 0) << others.err;
  std::map<std::string, std::vector<Sample>> expected;
  std::istringstream lines(others.out);
  for (std::string line; std::getline(lines, line);) {
    const auto frame = parse_json(line);
    const auto add = [&](const std::string& name, const boost::json::value& json, int64_t time, bool text) {
      Sample sample{ids.at(name), {}, time, Quality::kBad};  // a bool: no number
      if (json.is_string()) {
        const std::string value(json.get_string());
        sample.value = text ? Value(value) : Value(std::strtod(value.c_str(), nullptr));
      }
      expected[name].push_back(sample);
    };
    const std::string message(frame->at("message").get_string());
    for (const auto& [name, value] : frame->at("values").get_object())
      add(message + "." + std::string(name), value, frame->at("time").get_int64(), false);
    for (const auto& [name, value] : frame->at("texts").get_object())
      add(message + "." + std::string(name) + "_text", value, frame->at("time").get_int64(), true);
  }
  const AdapterHarness gateway(profile(dbc_file, "file = \"" + log_file + "\"\n", fields));
  size_t n = 0;
  for (const auto& [name, values] : expected) {
    if (name.ends_with("_text")) continue;
    EXPECT_TRUE(soon([&] { return gateway.samples(ids.at(name)).size() >= values.size(); })) << name;
    const std::vector<Sample> ours = gateway.samples(ids.at(name));
    EXPECT_EQ(ours.size(), values.size()) << name;
    for (size_t i = 0; i < std::min(ours.size(), values.size()); i++, n++) {
      EXPECT_EQ(ours[i].time_ms, values[i].time_ms);
      if (std::holds_alternative<double>(values[i].value))
        EXPECT_EQ(ours[i].value, values[i].value) << name << " of frame " << i;
      else
        EXPECT_EQ(ours[i].quality, Quality::kBad) << name;
    }
  }
  for (const auto& [name, values] : expected) {
    if (!name.ends_with("_text")) continue;
    std::vector<Sample> ours = gateway.samples(ids.at(name));
    std::erase_if(ours,
                  [](const Sample& sample) { return sample.quality == Quality::kBad; });  // no text for the number
    EXPECT_EQ(ours.size(), values.size()) << name;
    for (size_t i = 0; i < std::min(ours.size(), values.size()); i++, n++) EXPECT_EQ(ours[i].value, values[i].value);
  }
  return n;
}

TEST(Can, EveryValueOfALogIsWhatCantoolsReads) {
  const TestFolder folder;
  const auto dbc = Dbc::parse(test::read_whole(kDbc), kDbc);
  ASSERT_TRUE(dbc.has_value()) << dbc.error().message;
  EXPECT_EQ(dbc->messages.size(), 6U);
  std::mt19937 random(7);
  folder.write("can.log", random_log(random, *dbc, 600) + "(1700000000.5) can0 7FF#00\n(1700000000.5) can0 100#R\n");
  EXPECT_GT(compare(kDbc, *dbc, (folder.path() / "can.log").string()), 1400U);
}

// Signals at any place, of any size, order and sign: the file is made here, so that no habit of its author is in it.
TEST(Can, EveryValueOfRandomLayoutsIsWhatCantoolsReads) {
  const TestFolder folder;
  std::mt19937 random(11);
  std::string text = "VERSION \"\"\n\nBS_:\n\nBU_: A\n\n", forms;
  for (int m = 0; m < 400; m++) {  // one signal in each: cantools cannot read those that lie on each other
    const std::array sizes = {1, 4, 8, 8, 12, 64};
    const int size = sizes[random() % sizes.size()];
    const uint32_t key = m % 2 == 0 ? 0x100 + m : 0x98000000u + m;
    const bool is_float = m % 4 == 0 && size >= 8;
    DbcSignal signal;
    do {
      signal.start = static_cast<int>(random() % (size * 8));
      signal.size = is_float ? 32 << random() % 2 : 1 + static_cast<int>(random() % 64);
      signal.intel = random() % 2 == 0;
    } while (!signal.fits(size));
    const bool scaled = signal.size < 53 && random() % 2 == 0;
    text += fmt::format("BO_ {} M{}: {} A\n SG_ S : {}|{}@{}{} ({},{}) [0|0] \"\" A\n\n", key, m, size, signal.start,
                        signal.size, signal.intel ? 1 : 0, is_float || random() % 2 == 0 ? '-' : '+',
                        scaled ? 0.1 : 1.0, scaled ? -12.5 : 0.0);
    if (is_float) forms += fmt::format("SIG_VALTYPE_ {} S : {};\n", key, signal.size / 32);
  }
  folder.write("random.dbc", text + forms);
  const std::string file = (folder.path() / "random.dbc").string();
  const auto dbc = Dbc::parse(text + forms, file);
  ASSERT_TRUE(dbc.has_value()) << dbc.error().message;
  folder.write("can.log", random_log(random, *dbc, 6000));
  EXPECT_GT(compare(file, *dbc, (folder.path() / "can.log").string()), 6000U - 1);
}

TEST(Can, AFileIsFollowedWhileItGrowsAndWhenItIsReplaced) {
  const TestFolder folder;
  const std::string file = (folder.path() / "can.log").string();
  const AdapterHarness gateway(profile(kDbc, "file = \"" + file + "\"\npoll = \"10ms\"\npause_max = \"20ms\"\n",
                                       {"Motor.Speed", "Motor.Mode_text"}));
  ASSERT_TRUE(soon([&] { return gateway.away(0); }));  // it is not there yet
  const auto add = [&](const std::string& text) { std::ofstream(file, std::ios::app) << text << std::flush; };
  add("(1700000000.000000) can0 100#A000001000000000\n(1700000001.0) can0 100#0400");
  ASSERT_TRUE(soon([&] { return gateway.samples(0).size() == 1; }));
  EXPECT_FALSE(gateway.away(0));
  EXPECT_EQ(gateway.samples(0)[0].value, Value(40.0));
  EXPECT_EQ(gateway.samples(1)[0].value, Value(std::string("running")));
  add("000000000000\nnoise\n" + std::string(5000, '#') + "\n");  // the line's second half, and what is none
  ASSERT_TRUE(soon([&] { return gateway.samples(0).size() == 2 && gateway.adapter().figures().refused == 2; }));
  EXPECT_EQ(gateway.samples(0)[1].value, Value(1.0));
  EXPECT_EQ(gateway.samples(0)[1].time_ms, 1'700'000'001'000);
  folder.write("new.log", "(1700000002.0) can0 100#0800000000000000\n");
  std::filesystem::rename(folder.path() / "new.log", file);
  ASSERT_TRUE(soon([&] { return gateway.samples(0).size() == 3; }));
  std::filesystem::resize_file(file, 0);
  add("(1700000003.0) can0 100#0C00\n");
  ASSERT_TRUE(soon([&] { return gateway.samples(0).size() == 4; }));
  EXPECT_EQ(gateway.samples(0)[3].value, Value(3.0));
  EXPECT_EQ(gateway.samples(1)[3].quality, Quality::kBad);  // the frame is too short for it
}

// A bus by datagrams: the other end is the test, and cantools says what its frames have to be.
class Datagrams : public testing::Test {
 protected:
  Datagrams() : peer_(listen_for_datagrams("127.0.0.1", 0)) {
    port_ = test::free_port();
    address_ = *datagram_address("127.0.0.1", port_, false);
  }
  std::string source(bool send = true) {
    return fmt::format("listen = \"127.0.0.1:{}\"\npause_max = \"50ms\"\n", port_) +
           (send ? fmt::format("send = \"127.0.0.1:{}\"\n", bound_port(peer_->get())) : "");
  }
  void say(std::string_view frame) { EXPECT_TRUE(send_datagram(peer_->get(), address_, frame).has_value()); }
  std::string heard() {
    std::array<char, 512> bytes{};
    std::string from;
    int64_t n = -1;
    EXPECT_TRUE(soon([&] { return (n = take_datagram(peer_->get(), bytes, from)) >= 0; }));
    return {bytes.data(), static_cast<size_t>(std::max<int64_t>(n, 0))};
  }
  Result<Descriptor> peer_;
  int port_ = 0;
  std::string address_;
};

TEST_F(Datagrams, AWrittenSignalIsWhatCantoolsEncodesAndOthersOfItsMessageStay) {
  const AdapterHarness gateway(profile(kDbc, source(),
                                       {"Motor.Speed", "Motor.Mode_text", "Motor.Current", "Setpoint.Wanted",
                                        "Probe.Limit", "Probe.Count", "Motor.Torque"},
                                       " Motor.Speed Motor.Mode_text Motor.Current Setpoint.Wanted Probe.Limit "));
  ASSERT_TRUE(gateway.connected());
  Adapter& adapter = gateway.adapter();
  const auto unseen = adapter.write({0, 100.0});
  EXPECT_EQ(unseen.error().code, Code::kBusy);
  EXPECT_NE(unseen.error().message.find("Motor was not seen yet"), std::string::npos) << unseen.error().message;
  EXPECT_EQ(adapter.write({6, 1.0}).error().code, Code::kNotFound);
  ASSERT_TRUE(adapter.write({3, 1234.5}).has_value());  // alone in its message
  const auto encoded = [](const std::string& message, const std::string& json) {
    const auto result = test::run_program(python({kDbc, "encode", message, json}), {});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out.substr(0, result.out.find('\n'));
  };
  EXPECT_EQ(heard(), encoded("Setpoint", R"({"Wanted": 1234.5})"));

  say("(1700000000.0) can0 " +
      encoded("Motor", R"({"Speed":500,"Torque":12.5,"Mode":1,"Enabled":1,"Current":-3.5,"Phase":90})"));
  ASSERT_TRUE(soon([&] { return gateway.samples(0).size() == 1; }));
  ASSERT_TRUE(adapter.write({0, 750.25}).has_value());
  EXPECT_EQ(heard(),
            encoded("Motor", R"({"Speed":750.25,"Torque":12.5,"Mode":1,"Enabled":1,"Current":-3.5,"Phase":90})"));
  ASSERT_TRUE(adapter.write({1, std::string("fault")}).has_value());
  ASSERT_TRUE(adapter.write({2, -299.99}).has_value());
  EXPECT_EQ(heard(),
            encoded("Motor", R"({"Speed":750.25,"Torque":12.5,"Mode":7,"Enabled":1,"Current":-3.5,"Phase":90})"));
  EXPECT_EQ(heard(),
            encoded("Motor", R"({"Speed":750.25,"Torque":12.5,"Mode":7,"Enabled":1,"Current":-299.99,"Phase":90})"));
  EXPECT_EQ(adapter.write({0, 16000.5}).error().code, Code::kInvalidArgument);  // the DBC says at most 16000
  EXPECT_EQ(adapter.write({1, std::string("turbo")}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(adapter.write({0, std::nan("")}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(adapter.write({0, true}).error().code, Code::kInvalidArgument);

  say(encoded("Probe", R"({"Channel":1,"Housing":20,"Count":5})"));  // another selection than Limit's
  ASSERT_TRUE(soon([&] { return gateway.samples(5).size() == 1; }));
  EXPECT_EQ(adapter.write({4, 80.0}).error().code, Code::kBusy);
  say(encoded("Probe", R"({"Channel":2,"Limit":60,"Count":6})"));
  ASSERT_TRUE(soon([&] { return gateway.samples(4).size() == 1; }));
  ASSERT_TRUE(adapter.write({4, 80.0}).has_value());
  EXPECT_EQ(heard(), encoded("Probe", R"({"Channel":2,"Limit":80,"Count":6})"));
}

TEST_F(Datagrams, NoiseIsCountedAndNothingMore) {
  const AdapterHarness gateway(profile(kDbc, source(false), {"Motor.Speed"}));
  ASSERT_TRUE(gateway.connected());
  std::mt19937 random(3);
  constexpr std::string_view kLetters = "0123456789ABCDEF#()._R can0\n-+";
  for (int i = 0; i < 300; i++) {
    std::string noise = i % 2 == 0 ? "" : "100#";
    for (size_t n = random() % 200; n > 0; n--) noise += kLetters[random() % kLetters.size()];
    say(noise);
  }
  EXPECT_TRUE(soon([&] {
    say("100#0400000000000000");  // again: a full buffer of the system drops some
    const auto samples = gateway.samples(0);
    return !samples.empty() && samples.back().value == Value(1.0);
  })) << gateway.adapter().figures().refused;
  EXPECT_GT(gateway.adapter().figures().refused, 100U);
}

// A kernel without CAN, or without this interface: said with the next step, and tried again.
TEST(Can, AnInterfaceThatIsNotThereIsNamedWithTheRemedy) {
  const AdapterHarness gateway(profile(kDbc, "interface = \"hearthcan9\"\n", {"Setpoint.Wanted"}, " Setpoint.Wanted "));
  ASSERT_TRUE(soon([&] { return gateway.away(0); }));
  const std::string state = gateway.adapter().figures().state;
  EXPECT_TRUE(state.find("modprobe can_raw") != std::string::npos || state.find("ip link set") != std::string::npos)
      << state;
  EXPECT_EQ(gateway.adapter().write({0, 1.0}).error().code, Code::kIo);
}

TEST(Candump, ALineIsAFrameOrNothing) {
  const auto text = [](std::string_view line) {
    const auto frame = read_candump(line);
    return frame ? candump_text(*frame) + (frame->remote ? "R" : "") + (frame->error ? "!" : "") : "none";
  };
  EXPECT_EQ(text("123#DEADbeef"), "123#DEADBEEF");
  EXPECT_EQ(text("(1.5) vcan0 18DAF110##1AABB\r"), "18DAF110##1AABB");
  EXPECT_EQ(text("can0 7FF#"), "7FF#");
  EXPECT_EQ(text("(1.5) can0 00000123#R8"), "00000123#R");
  EXPECT_EQ(text("20000004#0004000000000000"), "00000004#0004000000000000!");
  EXPECT_EQ(text("123#1122334455667788_F"), "123#1122334455667788");
  for (const std::string_view line :
       {"", "#", "12#00", "1234#00", "800#00", "40000000#00", "123#0", "123#112233445566778899", "123##", "123##G00",
        "(x) can0 123#00", "(-1) can0 123#00", "+12#00", "123#+1", "can0"})
    EXPECT_EQ(text(line), "none") << line;
  EXPECT_EQ(text("123##0" + std::string(128, 'A')), "123##0" + std::string(128, 'A'));
  EXPECT_EQ(text("123##0" + std::string(130, 'A')), "none");
  EXPECT_EQ(read_candump("(1436509052.249713) can0 123#00")->time_ms, 1'436'509'052'250);
}

TEST(Dbc, MistakesAreNamedWithLineAndRemedy) {
  const auto error = [](const std::string& text) {
    const auto dbc = Dbc::parse(text, "a.dbc");
    return dbc ? "" : dbc.error().message;
  };
  const std::string message = "VERSION \"\"\nBO_ 1 M: 8 A\n";
  EXPECT_EQ(error(message + " SG_ S : 60|8@1+ (1,0) [0|0] \"\" A\n"),
            "a.dbc:3: S: bits 60|8 are not in the 8 bytes of M: correct the place or the size of the message");
  EXPECT_NE(error(message + " SG_ S : 2000000000|64@0+ (1,0) [0|0] \"\" A\n").find("a.dbc:3: S: bits"),
            std::string::npos);
  EXPECT_NE(error(message + " SG_ S : 0|8 (1,0)\n").find("START|BITS@1+"), std::string::npos);
  EXPECT_NE(error(message + " SG_ S : 0|8@1+ (0,0) [0|0] \"\" A\n").find("the factor is 0"), std::string::npos);
  EXPECT_NE(error(message + " SG_ S : 0|8@1+ (1,0) \"\" A\n").find("(FACTOR,OFFSET) [MIN|MAX]"), std::string::npos);
  EXPECT_NE(error(message + " SG_ S x : 0|8@1+ (1,0) [0|0] \"\" A\n").find("may stand M"), std::string::npos);
  EXPECT_NE(error(message + "BO_ 1 N: 8 A\n").find("a.dbc:3: message 1 is there twice"), std::string::npos);
  EXPECT_NE(error("BO_ 4096 N: 8 A\n").find("4096 is no identifier"), std::string::npos);
  EXPECT_NE(error("BO_ 1 N: 65 A\n").find("65 bytes, has to have 0 to 64"), std::string::npos);
  EXPECT_NE(error(" SG_ S : 0|8@1+ (1,0) [0|0] \"\" A\n").find("before the first BO_"), std::string::npos);
  EXPECT_NE(
      error(message + " SG_ S : 0|8@1+ (1,0) [0|0] \"\" A\nSIG_VALTYPE_ 1 S : 1;\n").find("1 (float) for 32 bits"),
      std::string::npos);
  EXPECT_NE(error(message + " SG_ S : 0|8@1+ (1,0) [0|0] \"\" A\nVAL_ 1 S 0 \"a\" 1 ;\n").find("a.dbc:4: S: its texts"),
            std::string::npos);
  EXPECT_EQ(Dbc::parse(std::string(limits::kDbcBytes + 1, ' '), "a.dbc").error().code, Code::kLimit);
  std::string many;
  for (uint64_t i = 0; i <= limits::kDbcMessages; i++) many += fmt::format("BO_ {} M: 8 A\n", (1u << 31) + i);
  EXPECT_NE(error(many).find("16384 messages"), std::string::npos);
}

TEST(Can, AProfileThatCannotWorkIsRefusedWithLineAndRemedy) {
  const auto error = [](const std::string& text) {
    const auto parsed = Profile::parse(text, "p.toml");
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_NE(error(profile(kDbc, "", {"Motor.Speed"})).find("give one of interface"), std::string::npos);
  EXPECT_NE(error(profile(kDbc, "listen = \"0.0.0.0:20000\"\n", {})).find("give from"), std::string::npos);
  EXPECT_NE(error(profile(kDbc, "file = \"a\"\n", {"Motor.Sped"})).find("Motor has no signal Sped"), std::string::npos);
  EXPECT_NE(error(profile(kDbc, "file = \"a\"\n", {"Motr.Speed"})).find("no message Motr"), std::string::npos);
  EXPECT_NE(error(profile(kDbc, "file = \"a\"\n", {"Motor.Speed_text"})).find("has no texts"), std::string::npos);
  EXPECT_NE(error(profile(kDbc, "file = \"a\"\n", {"Motor.Speed"}, " Motor.Speed ")).find("a log takes none"),
            std::string::npos);
  EXPECT_NE(error(profile(kDbc + "x", "file = \"a\"\n", {})).find("plant.dbcx"), std::string::npos);
  EXPECT_EQ(error(profile(kDbc, "interface = \"can0\"\n", {"Motor.Speed"}, " Motor.Speed ")), "");
}

}  // namespace
}  // namespace hearth::gateway
