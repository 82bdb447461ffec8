// `hearth serve` as systemd runs it and as others on the network see it.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/json.hpp>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <thread>

#include "model/gguf_writer.h"
#include "net/http_transfer.h"
#include "support/notify_socket.h"
#include "support/ports.h"
#include "support/program.h"
#include "support/raw_client.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

using test::Program;
using test::RawClient;
using test::status_of;

constexpr const char* kModel = HEARTH_TEST_DATA "/families/llama/model.gguf";

class ServeTest : public testing::Test {
 protected:
  // The server, as a child that tells the test what systemd is told; when it says it is ready.
  Program& start(std::vector<std::string> arguments, test::Environment environment = {}) {
    arguments.insert(arguments.begin(), {HEARTH_PROGRAM, "serve", kModel, "--context", "64"});
    environment.insert({{"HEARTH_HOME", home_.path().string()}, {"NOTIFY_SOCKET", notified_.path()}});
    server_ = std::make_unique<Program>(arguments, environment);
    EXPECT_EQ(notification(), "READY=1") << server_->err();
    return *server_;
  }
  std::string notification() { return notified_.next(); }
  // What stands behind the first `label` in what it wrote, to the end of the word.
  [[nodiscard]] std::string told(std::string_view label) const {
    const std::string err = server_->err();
    const size_t at = err.find(label);
    return at == std::string::npos
               ? ""
               : err.substr(at + label.size(), err.find_first_of(" \n", at + label.size()) - at - label.size());
  }
  [[nodiscard]] uint16_t port() const { return static_cast<uint16_t>(std::stoi("0" + told("://127.0.0.1:"))); }

  TestFolder home_;
  test::NotifySocket notified_;
  std::unique_ptr<Program> server_;
};

TEST_F(ServeTest, SystemdIsToldOfEveryStateAndRunningAnswersAreFinished) {
  Program& server = start({"--listen", "127.0.0.1:0"}, {{"WATCHDOG_USEC", "200000"}});
  EXPECT_EQ(notification(), "WATCHDOG=1");
  RawClient client(port());
  const std::string body = R"({"prompt":"A","max_tokens":40,"stream":true,"ignore_eos":true,"seed":1})";
  client.send(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}",
                          body.size(), body));
  EXPECT_EQ(status_of(client.read_until("data: ")), 200);
  server.signal(SIGTERM);
  EXPECT_TRUE(client.read_until("").contains("data: [DONE]"));
  std::string last = notification();
  while (last == "WATCHDOG=1") last = notification();
  EXPECT_EQ(last, "STOPPING=1");
  EXPECT_EQ(server.wait().exit_code, 0);
}

TEST_F(ServeTest, AnAddressOfTheNetworkGetsKeyAndCertificateAndSighupReadsKeysAnew) {
  Program& server = start({"--listen", "0.0.0.0:0", "--allow-host", "127.0.0.1"});
  const std::string err = server.err();
  HttpOptions options;
  options.ca_file = home_.path() / "serve" / "certificate.pem";
  const Url models = *parse_url(fmt::format("https://127.0.0.1:{}/v1/models", told("://0.0.0.0:")));
  EXPECT_FALSE(http_get_text(models, options, 1 << 20)) << "without a key";
  options.bearer_token = told("shown only now:\n  ");
  const auto listed = http_get_text(models, options, 1 << 20);
  ASSERT_TRUE(listed) << listed.error().message << err;
  EXPECT_TRUE(listed->contains("\"model\"")) << *listed;
  for (const char* secret : {"keys.json", "key.pem", "storage.key"}) {
    struct stat status{};
    EXPECT_EQ(::stat((home_.path() / "serve" / secret).c_str(), &status), 0) << secret;
    EXPECT_EQ(status.st_mode & 077, 0u) << secret << " is its owner's alone";
  }
  const auto added =
      test::run_program({HEARTH_PROGRAM, "key", "add", "kitchen", "--json"}, {{"HEARTH_HOME", home_.path().string()}});
  ASSERT_EQ(added.exit_code, 0) << added.err;
  options.bearer_token = boost::json::parse(added.out).at("key").as_string();
  EXPECT_FALSE(http_get_text(models, options, 1 << 20)) << "not read yet";
  server.signal(SIGHUP);
  EXPECT_EQ(notification(), "RELOADING=1");
  EXPECT_EQ(notification(), "READY=1");
  const auto with_new = http_get_text(models, options, 1 << 20);
  EXPECT_TRUE(with_new) << with_new.error().message << added.out;
}

TEST_F(ServeTest, ALocalSocketIsServedAndTakenOverFromAServerThatWasKilled) {
  const std::string path = home_.path() / "door";
  start({"--listen", "unix:" + path}).signal(SIGKILL);
  server_->wait();
  start({"--listen", "unix:" + path});
  EXPECT_EQ(status_of(RawClient(path).ask("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")), 200);
}

TEST_F(ServeTest, DevicesBesideModelsAskThisServersOwn) {
  const int port_of_device = test::free_port();
  home_.write("site.toml", fmt::format(R"(
[[signal]]
name = "tank/level"
min = 0
max = 100
[[signal]]
name = "valve"
type = "bool"
[signal.write]
[[adapter]]
type = "http"
listen = "127.0.0.1:{}"
signals = ["*"]
[[rule]]
name = "full"
when = "tank/level > 90"
question = "What now?"
otherwise = "none"
deadline = "30s"
abstain_below = 0
[[rule.action]]
name = "open"
says = "open the valve"
write = "valve"
value = true
)",
                                       port_of_device));
  const std::string profile = (home_.path() / "site.toml").string();
  start({"--listen", "127.0.0.1:0", "--gateway", profile, "--gateway-listen", "127.0.0.1:0"});
  const std::string says = told("Gateway listening on 127.0.0.1:0 (port ");
  const auto gateway = static_cast<uint16_t>(std::stoi("0" + says));
  ASSERT_NE(gateway, 0) << server_->err();
  const std::string value = R"({"signal":"tank/level","value":95})";
  RawClient device(static_cast<uint16_t>(port_of_device));
  device.send(fmt::format("POST /signals HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
                          value.size(), value));
  EXPECT_EQ(status_of(device.read_until("")), 200);
  const auto decisions = [&] {
    RawClient asks(gateway);
    asks.send("GET /v1/gateway/decisions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    return asks.read_until("");
  };
  EXPECT_TRUE(test::soon([&] { return decisions().contains("\"by\":\"model\""); })) << decisions() << server_->err();
  server_->signal(SIGHUP);
  EXPECT_EQ(notification(), "RELOADING=1");
  EXPECT_EQ(notification(), "READY=1");
  EXPECT_TRUE(server_->err().contains("The profile was read again.")) << server_->err();
}

TEST_F(ServeTest, AStreamWithoutAnyTextEndsInEveryDialect) {
  start({"--listen", "127.0.0.1:0"});
  for (const auto& [path, body] : std::vector<std::pair<std::string, std::string>>{
           {"/api/generate", R"({"model":"model","prompt":"A","raw":true,"options":{"num_predict":0}})"},
           {"/api/generate", R"({"model":"model","prompt":"A","raw":true,"stream":false,"options":{"num_predict":0}})"},
           {"/v1/completions", R"({"prompt":"A","stream":true,"max_tokens":0})"},
           {"/v1/completions", R"({"prompt":"A","max_tokens":0})"}}) {
    RawClient client(port());
    client.send(fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                            path, body.size(), body));
    const std::string answer = client.read_until("");
    EXPECT_EQ(status_of(answer), 200) << path << answer;
    EXPECT_TRUE(answer.contains("\"done\":true") || answer.contains("\"length\"")) << path << answer;
  }
}

// What the operator set, why it holds, and what an answer took.
TEST_F(ServeTest, PowerIsExplainedAndEnergyIsPartOfTheUsage) {
  start({"--listen", "127.0.0.1:0", "--power", "60%"});
  const auto ask = [&](const std::string& request) {
    const std::string whole = RawClient(port()).ask(request);
    EXPECT_EQ(status_of(whole), 200) << whole;
    return boost::json::parse(whole.substr(whole.find("\r\n\r\n") + 4));
  };
  const std::string body = R"({"prompt":"A","max_tokens":20,"ignore_eos":true,"seed":1})";
  const auto usage = ask(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                     "Content-Length: {}\r\n\r\n{}",
                                     body.size(), body))
                         .at("usage");
  EXPECT_GT(usage.at("joules").to_number<double>(), 0);
  EXPECT_TRUE(usage.at("joules_source") == "measured" || usage.at("joules_source") == "estimated");
  const auto state = ask("GET /v1/power HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(state.at("settings").at("share").to_number<double>(), 0.6);
  EXPECT_TRUE(state.at("settings").at("reason").as_string().starts_with("60 % asked for"));
  EXPECT_FALSE(state.at("decisions").as_array().empty());
  const std::string shown =
      test::run_program({HEARTH_PROGRAM, "power", "--server", "http://127.0.0.1:" + std::to_string(port())},
                        {{"HEARTH_HOME", home_.path().string()}})
          .out;
  EXPECT_TRUE(shown.contains("60 % of the processor")) << shown;
}

TEST_F(ServeTest, ABatchThatIsKilledGoesOnAndAnswersEveryLineOnce) {
  const std::string in = home_.path() / "in.jsonl", journal = ".journal";
  std::string lines;
  for (int i = 0; i < 60; ++i)
    lines += fmt::format(
        R"({{"custom_id":"{0}","method":"POST","url":"/v1/completions","body":{{"prompt":"LINE {0}","max_tokens":20,"temperature":0}}}})"
        "\n",
        i);
  lines += R"({"custom_id":"bad","method":"POST","url":"/v1/completions","body":{"prompt":"A","max_tokens":-7}})";
  test::write_whole(in, lines);
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{HEARTH_PROGRAM, "batch", in, out, "--model", kModel, "--context", "64"};
  };
  const test::Environment environment{{"HEARTH_HOME", home_.path().string()}};
  // What was asked and what came, line by line.
  const auto answers = [&](const std::string& out) {
    std::vector<std::string> all;
    std::istringstream text(test::read_whole(out));
    for (std::string line; std::getline(text, line);) {
      const auto value = boost::json::parse(line);
      const auto& body = value.at("response").at("body").as_object();
      const auto* choices = body.if_contains("choices");
      all.push_back(fmt::format("{} {}", std::string_view(value.at("custom_id").as_string()),
                                choices ? std::string_view(choices->at(0).at("text").as_string()) : "error"));
    }
    return all;
  };
  const std::string whole = home_.path() / "whole.jsonl", killed = home_.path() / "killed.jsonl";
  EXPECT_TRUE(test::run_program(arguments(whole), environment).err.contains("1 of 61 lines failed"));
  for (int round = 0; round < 4; ++round) {
    const Program program(arguments(killed), environment);
    while (!std::filesystem::exists(killed + journal) && program.running())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(30 * round));  // somewhere else each time
    program.signal(SIGKILL);
  }
  EXPECT_NE(test::run_program(arguments(killed), environment).exit_code, 0);
  EXPECT_EQ(answers(killed).size(), 61u);
  EXPECT_EQ(answers(killed), answers(whole));
  EXPECT_FALSE(std::filesystem::exists(killed + journal)) << "prompts stay nowhere";
}

TEST_F(ServeTest, AnAdapterIsKnownAndLoadsItsModelBeforeAnybodyAskedForThat) {
  constexpr uint64_t kWidth = 32;
  GgufWriter adapter;
  for (const auto& [key, value] :
       {std::pair{"general.type", "adapter"}, {"adapter.type", "lora"}, {"general.architecture", "llama"}})
    adapter.set(key, value);
  adapter.set("adapter.lora.alpha", 8.0f);
  std::vector<float> values(kWidth);
  for (size_t i = 0; i < kWidth; ++i) values[i] = static_cast<float>(i * 37 % 64) / 32 - 1;
  const uint64_t down[] = {kWidth, 1}, up[] = {1, kWidth};
  adapter.add_tensor("blk.0.attn_output.weight.lora_a", Type::kF32, down, std::as_bytes(std::span(values)));
  adapter.add_tensor("blk.0.attn_output.weight.lora_b", Type::kF32, up, std::as_bytes(std::span(values)));
  const std::string file = home_.path() / "adapter.gguf";
  ASSERT_TRUE(adapter.write(file));
  const test::Environment environment{{"HEARTH_HOME", home_.path().string()}, {"NOTIFY_SOCKET", notified_.path()}};
  ASSERT_EQ(test::run_program({HEARTH_PROGRAM, "pull", kModel, "--name", "base"}, environment).exit_code, 0);
  server_ = std::make_unique<Program>(
      std::vector<std::string>{HEARTH_PROGRAM, "serve", "--listen", "127.0.0.1:0", "--adapter", "pirate=" + file},
      environment);
  ASSERT_EQ(notification(), "READY=1") << server_->err();
  const auto ask = [&](const std::string& request) {
    RawClient client(port());
    return client.ask(request);
  };
  const auto complete = [&](const std::string& body) {
    return ask(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}",
                           body.size(), body));
  };
  const std::string one = "GET /v1/models/pirate HTTP/1.1\r\nHost: localhost\r\n\r\n";
  EXPECT_TRUE(ask(one).contains("\"parent\":null"));
  const std::string adapted =
      complete(R"({"model":"pirate","prompt":"A","max_tokens":9,"temperature":0,"ignore_eos":true})");
  EXPECT_EQ(status_of(adapted), 200) << adapted;
  EXPECT_TRUE(ask(one).contains("\"parent\":\"base\""));
  const auto text = [](const std::string& answer) {
    const size_t at = answer.find("\"text\":");
    return answer.substr(at, answer.find("\"logprobs\"") - at);
  };
  EXPECT_EQ(text(complete(R"({"model":"base","prompt":"A","max_tokens":9,"temperature":0,"ignore_eos":true,
                              "lora":[{"id":0,"scale":1}]})")),
            text(adapted));
}

TEST_F(ServeTest, APredictedAnswerTakesFewerStepsAndIsTheSame) {
  start({"--listen", "127.0.0.1:0", "--speculate", "4"});
  const auto complete = [&](const std::string& more) {
    const std::string body = R"({"prompt":"A","max_tokens":40,"temperature":1,"ignore_eos":true,"seed":3)" + more + "}";
    RawClient client(port());
    const std::string answer = client.ask(fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
    EXPECT_EQ(status_of(answer), 200) << answer;
    return boost::json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  };
  const boost::json::value plain = complete(R"(,"speculative.n_max":0)");
  EXPECT_FALSE(plain.at("timings").as_object().contains("draft_n"));
  const boost::json::value& text = plain.at("choices").at(0).at("text");
  const boost::json::value predicted =
      complete(R"(,"prediction":{"type":"content","content":)" + boost::json::serialize(text) + "}");
  EXPECT_EQ(predicted.at("choices").at(0).at("text"), text);
  const boost::json::value& timings = predicted.at("timings");
  EXPECT_GT(timings.at("draft_n_accepted").to_number<int>(), 10);
  EXPECT_GE(timings.at("draft_n").to_number<int>(), timings.at("draft_n_accepted").to_number<int>());
  RawClient client(port());
  const std::string metrics = client.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  for (const char* family : {"hearth_drafted_tokens_total", "hearth_accepted_draft_tokens_total"})
    for (const char* source : {"text", "answers"})
      EXPECT_TRUE(metrics.contains(fmt::format("{}{{model=\"model\",source=\"{}\"}}", family, source))) << metrics;
}

TEST_F(ServeTest, WhatCannotBeServedIsSaidAtOnce) {
  for (const auto& [arguments, said] :
       std::vector<std::pair<std::vector<std::string>, const char*>>{{{"--listen", "nonsense"}, "want HOST:PORT"},
                                                                     {{"--tls-cert", "only.pem"}, "belong together"},
                                                                     {{"absent-model"}, "absent-model"},
                                                                     {{kModel, "--speculate", "99"}, "1 to 15"},
                                                                     {{kModel, "--memory", "1KiB"}, "MiB would do"},
                                                                     {{"--alias", "x"}, "ALIAS=MODEL"}}) {
    std::vector<std::string> all{HEARTH_PROGRAM, "serve", "--listen", "127.0.0.1:0"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const auto result = test::run_program(all, {{"HEARTH_HOME", home_.path().string()}});
    EXPECT_NE(result.exit_code, 0) << said;
    EXPECT_TRUE(result.err.contains(said)) << result.err;
  }
}

}  // namespace
}  // namespace hearth
