// The gateway as it runs, with a device double: outages, a model that is away or slow, reloads, the door.
#include "gateway/gateway.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <set>

#include "base/json.h"
#include "gateway/door.h"
#include "net/http_call.h"
#include "net/http_transfer.h"
#include "support/fault_server.h"
#include "support/test_folder.h"

namespace hearth::gateway {
namespace {

// What a device double has seen. It outlives the gateway.
struct Far {
  std::mutex mutex;
  std::vector<Sample> samples;
  std::vector<Write> writes;
  GatewayInputs inputs;
  std::atomic<bool> away = false;

  size_t count() {
    const std::scoped_lock lock(mutex);
    return samples.size();
  }
  size_t written() {
    const std::scoped_lock lock(mutex);
    return writes.size();
  }
};

class Double final : public Adapter {
 public:
  explicit Double(Far& far) : far_(far) {}
  Result<> start(GatewayInputs inputs) override {
    const std::scoped_lock lock(far_.mutex);
    far_.inputs = std::move(inputs);
    return {};
  }
  Result<> publish(const Sample& sample) override {
    if (far_.away) return fail(Code::kIo, "away");
    const std::scoped_lock lock(far_.mutex);
    far_.samples.push_back(sample);
    return {};
  }
  Result<> write(const Write& write) override {
    if (far_.away) return fail(Code::kIo, "away");
    const std::scoped_lock lock(far_.mutex);
    far_.writes.push_back(write);
    return {};
  }
  void stop() override {}
  AdapterFigures figures() const override { return {!far_.away, 0, 0, 0, 0, "a double"}; }

 private:
  Far& far_;
};

// No test depends on how long; only on that it comes.
template <typename Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

constexpr std::string_view kSite = R"(
[[signal]]
name = "pump/vibration"
class = "A"
[[signal]]
name = "pump/pressure"
min = 0
max = 20
[signal.write]
min = 0
max = 10
action = "low"
[[signal]]
name = "door/unlocked"
type = "bool"
write = {}
[[rule]]
name = "shakes"
when = "pump/vibration > 7"
otherwise = "relieve"
deadline = "5s"
[[rule.action]]
name = "relieve"
write = "pump/pressure"
value = 2
[[rule.action]]
name = "open"
write = "door/unlocked"
value = true
[queue]
drain_per_second = 4000
)";

class GatewayTest : public testing::Test {
 protected:
  void start(std::string server = {}) {
    folder_.write("site.toml", site_);
    GatewayOptions options{.profile = folder_.path() / "site.toml",
                           .folder = folder_.path() / "data",
                           .server = std::move(server),
                           .key = {}};
    options.more = [this](std::span<const Signal>) {
      std::vector<Profile::Part> parts;
      parts.push_back({"double", "double", std::make_unique<Double>(far_)});
      return parts;
    };
    auto started = Gateway::start(std::move(options));
    ASSERT_TRUE(started) << started.error().message;
    gateway_ = std::move(*started);
  }
  void hear(SignalId signal, Value value, int64_t time_ms = now_ms()) {
    far_.inputs.sample({signal, std::move(value), time_ms, Quality::kGood});
  }
  static int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  TestFolder folder_;
  std::string site_{kSite};
  Far far_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, AValueReachesTheDeviceAndTheAudit) {
  start();
  hear(0, 9.0);
  ASSERT_TRUE(comes_true([&] { return far_.written() == 1; }));
  EXPECT_EQ(far_.writes[0].value, Value(2.0));
  gateway_.reset();
  const auto audit = Audit::open(folder_.path() / "data").value();
  EXPECT_FALSE(audit->verify()->broken);
  std::set<std::string> kinds;
  const auto rows = audit->last(100).value();
  for (const AuditRow& row : rows) kinds.insert(row.kind);
  EXPECT_TRUE(kinds.contains("decision") && kinds.contains("act")) << rows.size();
}

// thingsboard-gateway #2132 (never recovers), #1483 and #959: an outage, the process restarted in it, and everything arrives in order.
TEST_F(GatewayTest, AfterAnOutageAndARestartEverythingArrivesInItsOrderAndLiveValuesDoNotWait) {
  start();
  far_.away = true;
  const int64_t begin = now_ms() - 100'000;
  for (int i = 0; i < 300; ++i) hear(0, i * 0.001, begin + i);
  ASSERT_TRUE(comes_true([&] { return gateway_->state().at("queue").at(0).at("records").to_number<int>() >= 300; }));
  gateway_.reset();
  start();
  EXPECT_EQ(far_.count(), 0u);
  hear(1, 3.0);
  far_.away = false;
  ASSERT_TRUE(comes_true([&] { return far_.count() >= 301; }));
  ASSERT_TRUE(comes_true([&] { return gateway_->state().at("queue").at(0).at("records").to_number<int>() == 0; }));
  std::vector<int64_t> order;
  const std::scoped_lock lock(far_.mutex);
  for (const Sample& sample : far_.samples)
    if (sample.signal == 0) order.push_back(sample.time_ms - begin);
  ASSERT_EQ(order.size(), 300u);
  for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], static_cast<int64_t>(i));
}

TEST_F(GatewayTest, AProfileWithAMistakeChangesNothing) {
  start();
  folder_.write("site.toml", site_ + "[[rule]]\nname = \"bad\"\nwhen = \"nothing > 1\"\n");
  const auto reloaded = gateway_->reload();
  ASSERT_FALSE(reloaded);
  EXPECT_NE(reloaded.error().message.find("no signal 'nothing'"), std::string::npos) << reloaded.error().message;
  hear(0, 9.0);
  EXPECT_TRUE(comes_true([&] { return far_.written() == 1; })) << "the old rules go on";
  std::string changed = site_;
  changed.replace(changed.find("value = 2"), 9, "value = 5");
  folder_.write("site.toml", changed);
  ASSERT_TRUE(gateway_->reload());
  hear(0, 1.0);
  hear(0, 9.0);
  ASSERT_TRUE(comes_true([&] { return far_.written() == 2; }));
  EXPECT_EQ(far_.writes[1].value, Value(5.0));
}

// A server that answers as it likes: another label, an error, half an answer, nothing. 0 writes to the door, and each time what the
// rule says.
TEST_F(GatewayTest, AModelThatIsAwayCrashesOrTalksNonsenseLeavesTheDefault) {
  std::atomic<int> turn = 0;
  const std::vector<std::string> bodies{"",
                                        "{}",
                                        "[1]",
                                        R"({"answers":{"action":{"choice":"unlock everything"}}})",
                                        R"({"answers":{"action":{"choice":17}}})",
                                        R"({"answers":{"action":{"choice":null,"abstained":true}}})"};
  test::FaultServer server([&](const test::HttpRequest& request, const test::Connection& connection) {
    if (request.path != "/v1/decide") return connection.reply(404, "");
    const auto at = static_cast<size_t>(turn++);
    if (at == bodies.size()) return;  // hangs up
    if (at > bodies.size()) return connection.reply(500, "crashed");
    connection.reply(200, bodies[at]);
  });
  start(server.url(""));
  const size_t rounds = bodies.size() + 2;
  for (size_t i = 0; i < rounds; ++i) {
    hear(0, 1.0);
    hear(0, 9.0);
    ASSERT_TRUE(comes_true([&] { return far_.written() == i + 1; })) << i;
  }
  for (const Write& write : far_.writes) EXPECT_EQ(write.signal, 1u);
}

// Nobody listens, nobody answers, an answer that never ends: the deadline is the rule's, whatever the server does.
TEST_F(GatewayTest, AModelThatRefusesHangsOrDribblesLeavesTheDefault) {
  constexpr int kHangs = 0, kHalf = 1, kDribbles = 2, kEnd = 3;
  std::atomic<int> turn = kHangs;
  auto server = std::make_unique<test::FaultServer>([&](const test::HttpRequest&, const test::Connection& connection) {
    const int now = turn;
    if (now == kHangs) return connection.stall();
    (void)connection.head(200, "Content-Type: application/json\r\nContent-Length: 1000\r\n");
    if (now == kHalf) return connection.stall();
    while (turn == kDribbles && connection.send(" ")) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  site_.replace(site_.find("deadline = \"5s\""), 15, "deadline = \"1s\"");
  start(server->url(""));
  const auto once = [&](size_t count) {
    hear(0, 1.0);
    hear(0, 9.0);
    return comes_true([&] { return far_.written() == count; });
  };
  for (; turn < kEnd; ++turn) ASSERT_TRUE(once(static_cast<size_t>(turn) + 1)) << turn;
  server.reset();
  ASSERT_TRUE(once(kEnd + 1)) << "refused";
  for (const Write& write : far_.writes) EXPECT_EQ(write.value, Value(2.0));
  gateway_->look([](const Pipeline& pipeline, const Moment&) {
    EXPECT_EQ(pipeline.decisions().size(), size_t{kEnd} + 1);
    for (const Decision& each : pipeline.decisions()) {
      EXPECT_EQ(each.chosen, "relieve");
      EXPECT_TRUE(each.by == "late" || each.by == "no model") << each.by;
    }
    EXPECT_TRUE(pipeline.pending().empty());
  });
}

TEST_F(GatewayTest, TheModelsChoiceOfClassTwoWaitsAtTheDoor) {
  test::FaultServer server([&](const test::HttpRequest& request, const test::Connection& connection) {
    if (request.path == "/v1/decide")
      return connection.reply(200, R"({"answers":{"action":{"choice":"open","confidence":0.8}}})");
    connection.reply(200, R"({"choices":[{"message":{"content":"The vibration is 9."}}]})");
  });
  start(server.url(""));
  DoorOptions options;
  options.http.listen.push_back({.address = parse_listen_address("127.0.0.1:0").value(), .tls = false});
  options.key_file = folder_.path() / "keys.json";
  const auto door = Door::open(*gateway_, std::move(options)).value();
  const std::string base = fmt::format("http://127.0.0.1:{}", door->ports()[0]);
  const auto get = [&](std::string_view path) {
    return http_get_text(parse_url(base + std::string(path)).value(), {}, 1u << 20).value();
  };
  const auto post = [&](const std::vector<std::string>& headers, std::string_view body) {
    return http_call(parse_url(base + "/v1/gateway/confirm").value(), {.headers = headers, .body = body})
        .value()
        .status;
  };
  hear(0, 9.0);
  ASSERT_TRUE(comes_true([&] { return get("/v1/gateway/pending").find("token") != std::string::npos; }));
  const auto pending = parse_json(get("/v1/gateway/pending")).value();
  const std::string token(pending.at("data").at(0).at("token").as_string());
  const std::string body = R"({"token":")" + token + "\"}";
  EXPECT_EQ(far_.written(), 0u);
  EXPECT_EQ(post({"Origin: http://evil.example"}, body), 403) << "a page elsewhere";
  EXPECT_EQ(post({"Host: evil.example"}, body), 403) << "a name that was made to mean this machine";
  EXPECT_EQ(post({}, "{}"), 400);
  EXPECT_EQ(post({}, R"({"token":"0"})"), 404);
  EXPECT_EQ(far_.written(), 0u);
  EXPECT_EQ(post({}, body), 200);
  EXPECT_EQ(post({}, body), 404) << "replayed";
  ASSERT_TRUE(comes_true([&] { return far_.written() == 1; }));
  EXPECT_EQ(far_.writes[0].signal, 2u);
  ASSERT_TRUE(
      comes_true([&] { return get("/v1/gateway/decisions").find("The vibration is 9.") != std::string::npos; }));
  EXPECT_NE(get("/metrics").find("hearth_gateway_decisions_total{outcome=\"confirm\"} 1"), std::string::npos);
  EXPECT_NE(get("/").find("<title>Hearth gateway</title>"), std::string::npos);
  for (const char* path : {"/v1/gateway", "/v1/gateway/signals", "/v1/gateway/events", "/v1/gateway/audit"})
    EXPECT_TRUE(parse_json(get(path))) << path;
}

TEST(Audit, ARowThatWasChangedTakenOutOrPutInIsFound) {
  const std::vector<std::string> crimes{
      "UPDATE audit SET what = '{\"by\":\"nobody\"}' WHERE number = 5", "UPDATE audit SET time_ms = 1 WHERE number = 5",
      "DELETE FROM audit WHERE number = 5", "INSERT INTO audit VALUES (5, 1, 'act', '{}', 'aa')",
      "UPDATE audit SET digest = (SELECT digest FROM audit WHERE number = 4) WHERE number = 5"};
  for (const std::string& crime : crimes) {
    const TestFolder folder;
    {
      const auto audit = Audit::open(folder.path()).value();
      for (int i = 0; i < 9; ++i) {
        if (crime.starts_with("INSERT") && i == 4) continue;
        audit->add(1000 + i, "act", "{}");
      }
      ASSERT_TRUE(audit->flush());
      ASSERT_FALSE(audit->verify()->broken);
    }
    if (crime.starts_with("INSERT")) {
      const auto database = Database::open(folder.path() / "audit.db", "a thief", "").value();
      ASSERT_TRUE(database->run("UPDATE audit SET number = number + 1 WHERE number = 8"));
      ASSERT_TRUE(database->run("INSERT INTO audit VALUES (8, 1, 'act', '{}', 'aa')"));
    } else {
      const auto database = Database::open(folder.path() / "audit.db", "a thief", "").value();
      ASSERT_TRUE(database->run(crime.c_str()));
    }
    const auto audit = Audit::open(folder.path()).value();
    EXPECT_TRUE(audit->verify()->broken) << crime;
    audit->add(2000, "act", "{}");
    ASSERT_TRUE(audit->flush());
    EXPECT_TRUE(audit->verify()->broken) << "and stays found: " << crime;
  }
}

}  // namespace
}  // namespace hearth::gateway
