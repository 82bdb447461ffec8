// Servers that answer for each other, as processes: what a client sees when its own door dies, and what clouds can do to it.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <csignal>
#include <filesystem>
#include <thread>

#include "net/http_call.h"
#include "support/fault_server.h"
#include "support/ports.h"
#include "support/program.h"
#include "support/raw_client.h"
#include "support/real_model.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

using test::Program;
using test::RawClient;

constexpr const char* kModel = HEARTH_TEST_DATA "/families/llama/model.gguf";
constexpr std::string_view kStream =
    R"({"model":"one","prompt":"Once upon","max_tokens":24,"stream":true,"ignore_eos":true,"temperature":0.9})";

class DoorsTest : public testing::Test {
 protected:
  DoorsTest() {
    for (const char* name : {"one.gguf", "two.gguf"}) std::filesystem::copy_file(kModel, folder_.path() / name);
  }
  // Chats need a model with a template.
  void take_real_model() {
    const auto model = test::real_model();
    ASSERT_TRUE(model) << "the tiny model is not there; ./dev test fetches it";
    for (const char* name : {"one.gguf", "two.gguf"}) {
      std::filesystem::remove(folder_.path() / name);
      std::filesystem::create_symlink(*model, folder_.path() / name);
    }
  }
  struct Served {
    std::unique_ptr<Program> program;
    uint16_t port = 0;
    int door = 0;
  };
  // The words behind a mark in what a server said.
  static std::string told(const Program& program, const std::string& mark) {
    while (program.running() && !program.err().contains(mark))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const std::string err = program.err();
    const size_t at = err.find(mark);
    EXPECT_NE(at, std::string::npos) << err;
    return at == std::string::npos ? "0" : err.substr(at + mark.size(), err.find('\n', at) - at - mark.size());
  }
  Served serve(const std::string& model, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{HEARTH_PROGRAM, "serve",     (folder_.path() / model).string(),
                                       "--context",    "64",        "--listen",
                                       "127.0.0.1:0",  "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const test::Environment environment{{"HEARTH_HOME", (folder_.path() / "home").string()}};
    Served served{std::make_unique<Program>(arguments, environment)};
    served.port = static_cast<uint16_t>(std::stoi(told(*served.program, "Listening on http://127.0.0.1:")));
    if (std::ranges::find(more, "--door") != more.end()) {
      const std::string door = told(*served.program, "Door on ");
      served.door = std::stoi(door.substr(door.rfind(':') + 1));
    }
    return served;
  }
  Served serve_with(const std::string& model, const std::vector<int>& peers, std::vector<std::string> more = {}) {
    std::string list;
    for (const int peer : peers) list += fmt::format("{}127.0.0.1:{}", list.empty() ? "" : ",", peer);
    more.insert(more.end(), {"--door", "127.0.0.1:0"});
    if (!list.empty()) more.insert(more.end(), {"--peers", list});
    Served served = serve(model, more);
    for (size_t lives = 0; lives < peers.size();) {  // until it has heard of them
      const std::string doors = get(served, "/v1/doors");
      lives = 0;
      for (size_t at = doors.find("\"lives\":true"); at != std::string::npos; at = doors.find("\"lives\":true", at + 1))
        ++lives;
    }
    return served;
  }
  static std::string ask(const Served& served, std::string_view method, std::string_view path, std::string_view headers,
                         std::string_view body) {
    RawClient client(served.port);
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{}",
                            method, path, body.size(), headers, body));
    return client.read_until("");
  }
  static std::string get(const Served& served, std::string_view path, std::string_view headers = "") {
    return ask(served, "GET", path, headers, "");
  }
  // The events of a stream, without the chunks they came in.
  static std::vector<std::string> events(const std::string& answer) {
    std::vector<std::string> found;
    for (size_t at = answer.find("id: "); at != std::string::npos; at = answer.find("id: ", at + 1))
      found.push_back(answer.substr(at, answer.find("\n\n", at) - at));
    return found;
  }

  TestFolder folder_;
};

TEST_F(DoorsTest, AClientWhoseDoorDiedGetsTheRestFromAnother) {
  const Served second = serve_with("one.gguf", {});
  Served first = serve_with("one.gguf", {second.door});
  const std::string answer = ask(first, "POST", "/v1/completions", "Idempotency-Key: r1\r\n", kStream);
  const std::vector<std::string> whole = events(answer);
  ASSERT_GT(whole.size(), 20u) << answer;
  first.program->signal(SIGKILL);
  (void)first.program->wait();
  const auto rest_after = [&](size_t count) {
    const std::string id = whole[count - 1].substr(4, whole[count - 1].find('\n') - 4);
    return events(get(second, "/v1/answers/r1", "Last-Event-ID: " + id + "\r\n"));
  };
  for (const size_t count : {size_t{1}, size_t{7}, whole.size() - 1, whole.size()})
    EXPECT_EQ(rest_after(count), std::vector<std::string>(whole.begin() + static_cast<ptrdiff_t>(count), whole.end()));
  EXPECT_EQ(events(ask(second, "POST", "/v1/completions", "Idempotency-Key: r1\r\n", kStream)), whole);
  EXPECT_TRUE(get(second, "/v1/answers/r2").contains(" 404 "));
  EXPECT_TRUE(get(second, "/metrics").contains("hearth_door_resumes_total 5\n"));
}

TEST_F(DoorsTest, AnswersGivenBeforeThereWasAnotherDoorAreKnownToOneThatComesLater) {
  const std::string later = fmt::format("127.0.0.1:{}", test::free_port());
  Served first = serve("one.gguf", {"--door", "127.0.0.1:0", "--peers", later});
  const std::vector<std::string> whole =
      events(ask(first, "POST", "/v1/completions", "Idempotency-Key: r1\r\n", kStream));
  ASSERT_GT(whole.size(), 20u);
  const Served second = serve("one.gguf", {"--door", later});
  while (!get(second, "/metrics").contains("hearth_door_records 1\n"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  first.program->signal(SIGKILL);
  (void)first.program->wait();
  const std::string id = whole[0].substr(4, whole[0].find('\n') - 4);
  EXPECT_EQ(events(get(second, "/v1/answers/r1", "Last-Event-ID: " + id + "\r\n")),
            std::vector<std::string>(whole.begin() + 1, whole.end()));
}

TEST_F(DoorsTest, AModelIsAnsweredByWhoHasIt) {
  const Served second = serve_with("two.gguf", {});
  const Served first = serve_with("one.gguf", {second.door}, {"--policy-of", "class:ward=local-only"});
  const auto body = [](std::string_view more) {
    return fmt::format(R"({{"model":"two","prompt":"A","max_tokens":8,"seed":3,"temperature":1{}}})", more);
  };
  const auto text = [](const std::string& answer) {
    const size_t at = answer.find("\"choices\"");
    return at == std::string::npos ? answer : answer.substr(at, answer.find("\"usage\"") - at);
  };
  const std::string there = ask(second, "POST", "/v1/completions", "", body(""));
  const std::string here = ask(first, "POST", "/v1/completions", "", body(""));
  EXPECT_TRUE(there.contains("\"choices\"")) << there;
  EXPECT_EQ(text(here), text(there));
  // It is counted once the answer is over on both sides, which the client does not wait for.
  EXPECT_TRUE(test::soon([&] { return get(first, "/metrics").contains("reason=\"only_one\"} 1\n"); }));
  for (const char* more :
       {R"(,"policy":"local-only")", R"(,"data_class":"ward")", R"(,"data_class":"unheard-of","policy":"any")"})
    EXPECT_TRUE(ask(first, "POST", "/v1/completions", "", body(more)).contains(" 404 ")) << more << " is not sent on";
  EXPECT_TRUE(ask(first, "POST", "/v1/completions", "X-Hearth-Policy: local-only\r\n", body(R"(,"policy":"any")"))
                  .contains(" 404 "));
  EXPECT_TRUE(ask(first, "POST", "/v1/completions", "", body(R"(,"policy":"everywhere")")).contains(" 400 "));
}

TEST_F(DoorsTest, DoorsAreForMachinesOfTheSite) {
  const auto made = test::run_program({HEARTH_PROGRAM, "cluster", "init", "--name", "m"},
                                      {{"HEARTH_HOME", (folder_.path() / "home").string()}});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Served second = serve_with("two.gguf", {});
  const Served first = serve_with("one.gguf", {second.door});
  EXPECT_TRUE(ask(first, "POST", "/v1/completions", "", R"({"model":"two","prompt":"A","max_tokens":4})")
                  .contains("\"choices\""))
      << "they believe each other";
  const auto knock = [&](const char* scheme) {
    return http_call(*parse_url(fmt::format("{}://127.0.0.1:{}/api/hearth/door", scheme, second.door)),
                     {.method = "GET"});
  };
  EXPECT_FALSE(knock("http"));
  EXPECT_FALSE(knock("https")) << "without a certificate";
  EXPECT_TRUE(get(second, "/api/hearth/door").contains(" 403 ")) << "at the address for clients";
  const auto plain = test::run_program({HEARTH_PROGRAM, "serve", "--peers", "10.1.2.3:7951", "--listen", "127.0.0.1:0"},
                                       {{"HEARTH_HOME", (folder_.path() / "elsewhere").string()}});
  EXPECT_NE(plain.exit_code, 0);
  EXPECT_TRUE(plain.err.contains("hearth cluster init")) << plain.err;
}

std::vector<std::string> cloud_flags(const std::string& url, const std::string& timeout = "20") {
  return {"--cloud", url, "--cloud-model", "two", "--cloud-budget", "100000", "--cloud-timeout", timeout};
}
// More than can be done in a millisecond.
std::string hurried(std::string_view more) {
  return fmt::format(
      R"({{"model":"one","messages":[{{"role":"user","content":"A"}}],"max_tokens":8,"deadline_ms":1{}}})", more);
}

TEST_F(DoorsTest, ACloudAnswersWhatMayLeaveAndTheSiteCannot) {
  take_real_model();
  const Served cloud = serve("two.gguf");
  const Served site = serve("one.gguf", cloud_flags(fmt::format("http://127.0.0.1:{}/v1", cloud.port)));
  const std::string answer = ask(site, "POST", "/v1/chat/completions", "", hurried(R"(,"policy":"any")"));
  EXPECT_TRUE(answer.contains("X-Hearth-Answered-By: cloud:two\r\n")) << answer;
  EXPECT_TRUE(answer.contains(R"("hearth":{"answered_by":"cloud:two"})")) << answer;
  const std::string stream = ask(site, "POST", "/v1/chat/completions", "", hurried(R"(,"policy":"any","stream":true)"));
  EXPECT_TRUE(stream.contains("\"answered_by\":\"cloud:two\"") && stream.contains("data: [DONE]\n\n")) << stream;
  const std::string metrics = get(site, "/metrics");
  EXPECT_TRUE(metrics.contains("hearth_cloud_requests_total{result=\"answered\"} 2\n")) << metrics;
  EXPECT_FALSE(ask(site, "POST", "/v1/chat/completions", "", hurried("")).contains("cloud:"))
      << "the usual policy is site";
  EXPECT_FALSE(
      ask(site, "POST", "/v1/chat/completions", "", hurried(R"(,"policy":"any","data_class":"x")")).contains("cloud:"));
  EXPECT_TRUE(get(site, "/metrics").contains("hearth_cloud_requests_total{result=\"answered\"} 2\n"));
}

TEST_F(DoorsTest, WhateverACloudDoesTheSiteAnswers) {
  take_real_model();
  using Handler = test::FaultServer::Handler;
  const std::string good = R"({"choices":[{"message":{"content":"CLOUD"},"finish_reason":"stop"}]})";
  const std::vector<std::pair<const char*, Handler>> faults{
      {"an error", [](const auto&, const test::Connection& c) { c.reply(503, "<html>no"); }},
      {"garbage", [](const auto&, const test::Connection& c) { c.reply(200, "<html>no"); }},
      {"cut",
       [&](const auto&, const test::Connection& c) {
         c.head(200, "Content-Length: 4000\r\n");
         c.send(good);
       }},
      {"silent", [](const auto&, const test::Connection& c) { c.stall(); }},
      {"endless", [](const auto&, const test::Connection& c) {
         c.head(200, "");
         while (c.send(std::string(1 << 16, ' '))) {
         }
       }}};
  for (const auto& [what, handler] : faults) {
    test::FaultServer cloud(handler);
    const Served site = serve("one.gguf", cloud_flags(cloud.url("/v1"), "1"));
    const std::string answer = ask(site, "POST", "/v1/chat/completions", "", hurried(R"(,"policy":"any")"));
    EXPECT_TRUE(answer.contains(" 200 OK") && answer.contains("\"finish_reason\"")) << what << answer;
    EXPECT_TRUE(answer.contains(R"x("hearth":{"answered_by":"local (the cloud failed)"})x")) << what << answer;
    EXPECT_TRUE(answer.contains("X-Hearth-Answered-By: local (the cloud failed)\r\n")) << what << answer;
    EXPECT_EQ(cloud.requests().size(), 1u) << what;
  }
}

}  // namespace
}  // namespace hearth
