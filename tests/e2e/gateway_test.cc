// `hearth gateway` and the commands that look at it, as a user or a script runs them.
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "support/ports.h"
#include "support/program.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace json = boost::json;
using test::ProgramResult;

constexpr const char* kSite = R"(
[[signal]]
name = "door"
type = "bool"
write = {}
[[signal]]
name = "light"
type = "bool"
[signal.write]
action = "low"
[[adapter]]
type = "http"
listen = "127.0.0.1:PORT"
signals = ["*"]
requests = ["*"]
)";

class GatewayCommands : public testing::Test {
 protected:
  [[nodiscard]] ProgramResult hearth(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {HEARTH_PROGRAM, "gateway"});
    return test::run_program(arguments, {{"HEARTH_HOME", folder_.path().string()}});
  }
  [[nodiscard]] json::value answer(const std::vector<std::string>& arguments) const {
    json::error_code error;
    return json::parse(hearth(arguments).out, error);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  // A gateway that listens, and whose http adapter does.
  void start() {
    std::string site = kSite;
    site.replace(site.find("PORT"), 4, std::to_string(device_port_));
    folder_.write("site.toml", site);
    gateway_ = std::make_unique<test::Program>(
        std::vector<std::string>{HEARTH_PROGRAM, "gateway", "--config", file("site.toml"), "--listen",
                                 "127.0.0.1:" + std::to_string(port_)},
        test::Environment{{"HEARTH_HOME", folder_.path().string()}});
    ASSERT_TRUE(test::soon([&] { return test::answers_on(port_) && test::answers_on(device_port_); }))
        << gateway_->err();
  }
  // Somebody's webhook asks for a value.
  void ask(const std::string& body) const {
    const ProgramResult said =
        test::run_program({"curl", "-sS", "--fail", "-H", "Content-Type: application/json", "-d", body,
                           "http://127.0.0.1:" + std::to_string(device_port_) + "/requests"},
                          {});
    EXPECT_EQ(said.exit_code, 0) << said.err;
  }
  [[nodiscard]] json::value top() const { return answer({"top", "--json", "--server", server_}); }

  const TestFolder folder_;
  const int port_ = test::free_port(), device_port_ = test::free_port();
  const std::string server_ = "http://127.0.0.1:" + std::to_string(port_);
  std::unique_ptr<test::Program> gateway_;
};

TEST_F(GatewayCommands, CheckCountsWhatAProfileHasOrNamesItsMistakeWithLineAndRemedy) {
  folder_.write("site.toml", kSite);
  const ProgramResult wrong = hearth({"check", file("site.toml"), "--json"});
  EXPECT_NE(wrong.exit_code, 0);
  EXPECT_EQ(wrong.out, "");
  EXPECT_TRUE(wrong.err.contains("site.toml:13: listen")) << wrong.err;
  EXPECT_EQ(hearth({"check", file("absent.toml")}).exit_code, 66);
  const json::value checked = answer({"check", HEARTH_TEST_DATA "/../../examples/smart-home/site.toml", "--json"});
  ASSERT_TRUE(checked.is_object());
  EXPECT_EQ(checked.at("signals"), 10);
  EXPECT_EQ(checked.at("adapters"), 2);
  EXPECT_EQ(checked.at("guards"), 1);
  EXPECT_TRUE(hearth({"check", HEARTH_TEST_DATA "/../../examples/industrial/site.toml"}).out.contains(" interlocks"));
}

TEST_F(GatewayCommands, WhatWaitsIsSeenConfirmedOnceAndAudited) {
  start();
  ask(R"({"signal":"door","value":true})");
  json::value seen;
  ASSERT_TRUE(test::soon([&] {
    seen = top();
    return seen.is_object() && seen.at("pending").as_array().size() == 1;
  }));
  EXPECT_EQ(seen.at("signals").as_array().size(), 2u);
  EXPECT_EQ(seen.at("gateway").at("adapters").at(0).at("type"), "http");
  EXPECT_EQ(seen.at("pending").at(0).at("signal"), "door");
  EXPECT_TRUE(hearth({"top", "--server", server_}).out.contains("seconds_left")) << "a table for people";
  const std::string token(seen.at("pending").at(0).at("token").as_string());
  const ProgramResult guessed = hearth({"confirm", "0123", "--server", server_});
  EXPECT_EQ(guessed.exit_code, 66) << guessed.err;
  EXPECT_EQ(answer({"confirm", token, "--server", server_, "--json"}), json::value({{"confirmed", true}}));
  EXPECT_EQ(hearth({"confirm", token, "--server", server_}).exit_code, 66) << "a second time";
  gateway_->signal(SIGTERM);
  EXPECT_EQ(gateway_->wait().exit_code, 0);

  const json::value audit = answer({"audit", "--json"});
  ASSERT_TRUE(audit.is_object());
  std::map<std::string, int> kinds;
  for (const json::value& row : audit.at("rows").as_array()) {
    ++kinds[std::string(row.at("kind").as_string())];
    EXPECT_TRUE(row.at("what").is_object());
  }
  EXPECT_EQ(kinds["confirmed"], 1);
  EXPECT_EQ(kinds["confirmation_refused"], 2);
  EXPECT_EQ(answer({"audit", "--json", "--count", "1"}).at("rows").as_array().size(), 1u);
  const json::value verified = answer({"audit", "--verify", "--json"});
  ASSERT_TRUE(verified.is_object());
  EXPECT_EQ(verified.at("ok"), true);
  EXPECT_EQ(verified.at("rows").as_int64(), static_cast<int64_t>(audit.at("rows").as_array().size()));
}

TEST_F(GatewayCommands, AProfileWithAMistakeAfterSighupChangesNothingAndAGoodOneIsTaken) {
  start();
  folder_.write("site.toml", "[[signal]]\nname = \"a b\"\n");
  gateway_->signal(SIGHUP);
  ASSERT_TRUE(test::soon([&] { return gateway_->err().contains("Nothing changed"); })) << gateway_->err();
  EXPECT_EQ(top().at("signals").as_array().size(), 2u);
  folder_.write("site.toml", "[[signal]]\nname = \"other\"\n");
  gateway_->signal(SIGHUP);
  ASSERT_TRUE(test::soon([&] { return gateway_->err().contains("read again"); })) << gateway_->err();
  EXPECT_EQ(top().at("signals").at(0).at("name"), "other");
}

TEST_F(GatewayCommands, WithoutAGatewayTheCommandsSaySo) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"top"}, {"top", "--json"}, {"confirm", "x"}}) {
    std::vector<std::string> all = command;
    all.insert(all.end(), {"--server", server_});
    const ProgramResult result = hearth(all);
    EXPECT_NE(result.exit_code, 0) << command[0];
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("hearth: ")) << result.err;
  }
}

}  // namespace
}  // namespace hearth
