// A site with its broker as a user makes one: machines find each other, a broker that dies disturbs nobody, who is put out stays out.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "support/broker.h"
#include "support/program.h"
#include "support/raw_client.h"
#include "support/real_model.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

using test::between;
using test::Environment;
using test::Program;

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

class SiteTest : public testing::Test {
 protected:
  SiteTest() {
    broker_ = std::make_unique<test::Broker>([&](int port) {
      const auto made = hearth({"cluster", "init", "--name", "owner", "--broker", "127.0.0.1:" + std::to_string(port)});
      EXPECT_EQ(made.exit_code, 0) << made.err;
      return between(made.err, "nats-server -c ", "\n");
    });
  }
  void SetUp() override {
    const auto model = test::real_model();
    ASSERT_TRUE(model) << "the tiny model is not there; ./dev test fetches it";
    model_ = model->string();
  }

  [[nodiscard]] Environment at(const std::string& machine, const std::string& log = "warning") const {
    return {{"HEARTH_HOME", (folder_.path() / machine).string()}, {"HEARTH_THREADS", "1"}, {"HEARTH_LOG", log}};
  }
  [[nodiscard]] test::ProgramResult hearth(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), HEARTH_PROGRAM);
    return test::run_program(arguments, at("owner"));
  }
  static void wait_until(const Program& program, const std::string& says) {
    EXPECT_TRUE(test::soon([&] { return !program.running() || program.err().contains(says); }));
    EXPECT_TRUE(program.err().contains(says)) << program.err();
  }
  std::unique_ptr<Program> join(const std::string& name, const std::vector<std::string>& more = {}) {
    Program invites({HEARTH_PROGRAM, "cluster", "invite", "--listen", "127.0.0.1:0"}, at("owner"));
    wait_until(invites, "--join");
    const std::string token = between(invites.err(), "--join ", "\n");
    std::vector<std::string> node{HEARTH_PROGRAM, "node", "--listen", "127.0.0.1:0", "--name", name, "--join", token};
    node.insert(node.end(), more.begin(), more.end());
    auto machine = std::make_unique<Program>(node, at(name, "debug"));
    wait_until(*machine, "Listening on port ");
    EXPECT_EQ(invites.wait().exit_code, 0);
    return machine;
  }
  static std::string address_of(const Program& machine) {
    return "127.0.0.1:" + between(machine.err(), "Listening on port ", " ");
  }
  // The whole answer of a server.
  static std::string get(const Program& server, const std::string& path) {
    test::RawClient client(
        static_cast<uint16_t>(std::stoi(between(server.err(), "Listening on http://127.0.0.1:", "\n"))));
    client.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    return client.read_until("");
  }
  // How many machines `hearth cluster top` says are there.
  [[nodiscard]] size_t there() const {
    const auto top = hearth({"cluster", "top", "--json"});
    return top.exit_code == 0 ? count(top.out, "\"there\":true") : 0;
  }
  [[nodiscard]] std::vector<std::string> question(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{HEARTH_PROGRAM, "run", model_,          "Tell me about the sea.",
                                       "--max-tokens", "48",  "--temperature", "0.7",
                                       "--seed",       "3",   "--context",     "256"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  TestFolder folder_;
  std::unique_ptr<test::Broker> broker_;
  std::string model_;
};

TEST_F(SiteTest, MachinesFindEachOtherAndTheOwnerPlansWithThem) {
  const auto one = join("one"), two = join("two");
  EXPECT_TRUE(test::soon([&] { return there() == 2; })) << hearth({"cluster", "top"}).out << broker_->log();
  const auto lines = hearth({"cluster", "top"});
  EXPECT_TRUE(lines.out.contains("one") && lines.out.contains("two") && lines.out.contains("GB/s")) << lines.out;
  const auto whole = test::run_program(question(), at("owner"));
  const auto planned = test::run_program(question({"--cluster"}), at("owner"));
  EXPECT_EQ(planned.out, whole.out) << planned.err;
  EXPECT_TRUE(planned.err.contains("3 machines of the site")) << planned.err;
  // For several answers at once three machines are better than one.
  Program serves({HEARTH_PROGRAM, "serve", model_, "--listen", "127.0.0.1:0", "--context", "256", "--parallel", "4",
                  "--stages", "auto"},
                 at("owner"));
  wait_until(serves, "Listening on");
  EXPECT_TRUE(serves.err().contains(" on one") && serves.err().contains(" on two")) << serves.err();
  EXPECT_TRUE(test::soon([&] { return there() == 3; })) << "the server says that it is there, too";
  EXPECT_EQ(count(hearth({"cluster", "top", "--json"}).out, "\"owner\":\"owner\""), 2u) << "who runs what for whom";
  const auto seen = [&] { return get(serves, "/v1/site"); };  // what the page shows
  EXPECT_TRUE(test::soon([&] { return count(seen(), "\"there\":true") == 3; })) << seen();
  const std::string site = seen();
  for (const Program* machine : {one.get(), two.get()}) {
    EXPECT_TRUE(site.contains("\"stages_at\":\"" + address_of(*machine) + "\"")) << site;
    EXPECT_TRUE(site.contains("{\"address\":\"" + address_of(*machine) + "\",\"layers\":[")) << site;
  }
  EXPECT_TRUE(site.contains(" tokens/s expected, ")) << site << "why it is so";
  EXPECT_TRUE(site.contains("\"broker\":true") && site.contains("\"losses\":0")) << site;
}

TEST_F(SiteTest, ABrokerThatIsKilledDisturbsNoAnswer) {
  const auto whole = test::run_program(question(), at("owner"));
  const auto one = join("one"), two = join("two");
  Program asks(question({"--stages", address_of(*one) + "," + address_of(*two)}), at("owner"));
  wait_until(*two, "step 15\n");
  broker_->kill();
  wait_until(*two, "step 25\n");
  broker_->start();
  const auto answer = asks.wait();
  EXPECT_EQ(answer.out, whole.out) << answer.err;
  EXPECT_FALSE(answer.err.contains("the chain goes on as")) << "no stage was given up: " << answer.err;
  EXPECT_TRUE(test::soon([&] { return there() == 2; })) << "everybody is there again";
}

TEST_F(SiteTest, MachinesThatNobodyReachesAreReachedByTheBroker) {
  const auto whole = test::run_program(question(), at("owner"));
  const auto one = join("one", {"--address", "127.0.0.1:1"}), two = join("two", {"--address", "127.0.0.1:2"});
  EXPECT_TRUE(test::soon([&] { return there() == 2; }));
  const auto answer = test::run_program(question({"--stages", "127.0.0.1:1,127.0.0.1:2"}), at("owner", "info"));
  EXPECT_EQ(answer.out, whole.out) << answer.err << one->err() << two->err();
  EXPECT_TRUE(answer.err.contains("over the site's broker")) << answer.err;
  EXPECT_TRUE(one->err().contains("127.0.0.1:2 is not to be reached directly")) << one->err();
}

TEST_F(SiteTest, ServersFindTheDoorsOfOthersAndKeepThemWithoutTheBroker) {
  const auto one = join("one");  // so that this machine has a place in the site
  const std::vector<std::string> serve{HEARTH_PROGRAM, "serve",       model_,      "--listen", "127.0.0.1:0",
                                       "--door",       "127.0.0.1:0", "--context", "256"};
  Program first(serve, at("owner")), second(serve, at("one"));
  const auto doors = [](const Program& server) { return get(server, "/v1/doors"); };
  for (Program* server : {&first, &second}) {
    wait_until(*server, "Listening on");
    EXPECT_TRUE(test::soon([&] { return doors(*server).contains("\"lives\":true"); })) << doors(*server);
  }
  broker_->kill();
  second.signal(SIGKILL);
  EXPECT_TRUE(test::soon([&] { return doors(first).contains("\"lives\":false"); })) << doors(first);
}

TEST_F(SiteTest, AnOldOwnerOfAChainIsRefusedByItsStages) {
  const auto one = join("one");
  const std::vector<std::string> chain{"--stages", address_of(*one), "--chain", "home"};
  const auto first = test::run_program(question(chain), at("owner"));
  EXPECT_EQ(first.exit_code, 0) << first.err;
  const auto second = test::run_program(question(chain), at("owner"));
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  wait_until(*one, "epoch " + std::to_string((2ull << 32) + 1));
  // The owner's disk is an old one, and the broker has forgotten everything.
  std::filesystem::remove_all(folder_.path() / "owner/site/leases");
  broker_->kill();
  std::filesystem::remove_all(folder_.path() / "owner/site/broker/streams");
  broker_->start();
  const auto old = test::run_program(question(chain), at("owner"));
  EXPECT_NE(old.exit_code, 0);
  EXPECT_TRUE(old.err.contains("term 1 of owner is refused")) << old.err;
}

TEST_F(SiteTest, AnOwnerWhoseChainIsAnothersSaysSoAndAnswersNothing) {
  const auto one = join("one"), two = join("two");
  const std::vector<std::string> chain{"--stages", address_of(*one), "--chain", "home"};
  std::vector<std::string> serve{HEARTH_PROGRAM, "serve", model_, "--listen", "127.0.0.1:0", "--context", "256"};
  serve.insert(serve.end(), chain.begin(), chain.end());
  Program first(serve, at("owner"));
  wait_until(first, "Listening on");
  const auto ask = [&] {
    test::RawClient client(
        static_cast<uint16_t>(std::stoi(between(first.err(), "Listening on http://127.0.0.1:", "\n"))));
    const std::string body = R"({"prompt":"The sea","max_tokens":4})";
    client.send(
        fmt::format("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
                    "{}\r\n\r\n{}",
                    body.size(), body));
    return client.read_until("");
  };
  EXPECT_TRUE(ask().contains(" 200 ")) << first.err();
  first.signal(SIGSTOP);
  const auto second = test::run_program(question(chain), at("two"));
  EXPECT_EQ(second.exit_code, 0) << second.err;
  first.signal(SIGCONT);
  const std::string refused = ask();
  EXPECT_TRUE(refused.contains(" 503 ")) << refused;
  EXPECT_TRUE(first.err().contains("is another owner's; started again, this one waits for it") ||
              first.err().contains("the chain is two's"))
      << first.err();
  EXPECT_FALSE(first.err().contains("layers 0-30 here")) << first.err();
}

TEST_F(SiteTest, ARevokedMachineIsPutOut) {
  auto one = join("one");
  const auto two = join("two");
  EXPECT_TRUE(test::soon([&] { return there() == 2; }));
  const auto revoked = hearth({"cluster", "revoke", "two"});
  EXPECT_EQ(revoked.exit_code, 0) << revoked.err;
  EXPECT_TRUE(test::soon([&] { return there() == 1; }));
  EXPECT_TRUE(test::soon([&] { return std::filesystem::exists(folder_.path() / "one/site/revoked.pem"); }))
      << "the others know";
  const auto refused = test::run_program(question({"--stages", address_of(*one)}), at("two"));
  EXPECT_NE(refused.exit_code, 0) << "it may use nobody any more";
  const auto other = test::run_program(question({"--stages", address_of(*two)}), at("owner"));
  EXPECT_NE(other.exit_code, 0) << "and nobody uses it";
  EXPECT_TRUE(other.err.contains("revoked")) << other.err;
}

}  // namespace
}  // namespace hearth
