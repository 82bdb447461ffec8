// Machines of a site as processes: what a user starts, what becomes of an answer when one of them is killed or frozen.
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "support/program.h"
#include "support/real_model.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

using test::between;
using test::Environment;
using test::Program;

class ClusterTest : public testing::Test {
 protected:
  ClusterTest() {
    const auto made = test::run_program({HEARTH_PROGRAM, "cluster", "init", "--name", "owner"}, at("owner"));
    EXPECT_EQ(made.exit_code, 0) << made.err;
  }

  void SetUp() override {
    const auto model = test::real_model();
    ASSERT_TRUE(model) << "the tiny model is not there; ./dev test fetches it";
    model_ = model->string();
  }

  // Each machine has its own folder.
  [[nodiscard]] Environment at(const std::string& machine, const std::string& log = "warning") const {
    return {{"HEARTH_HOME", (folder_.path() / machine).string()}, {"HEARTH_THREADS", "1"}, {"HEARTH_LOG", log}};
  }

  static void wait_until(const Program& program, const std::string& says) {
    while (program.running() && !program.err().contains(says))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(program.err().contains(says)) << program.err();
  }

  struct Machine {
    std::unique_ptr<Program> program;
    std::string address;
  };
  // Joins the site with an invitation, as a new machine does, and runs stages.
  Machine join(const std::string& name) {
    Program invites({HEARTH_PROGRAM, "cluster", "invite", "--listen", "127.0.0.1:0"}, at("owner"));
    wait_until(invites, "--join");
    const std::string token = between(invites.err(), "--join ", "\n");
    Machine machine;
    machine.program = std::make_unique<Program>(
        std::vector<std::string>{HEARTH_PROGRAM, "node", "--listen", "127.0.0.1:0", "--name", name, "--join", token},
        at(name, "debug"));
    wait_until(*machine.program, "Listening on port ");
    machine.address = "127.0.0.1:" + between(machine.program->err(), "Listening on port ", " ");
    EXPECT_EQ(invites.wait().exit_code, 0);
    return machine;
  }

  [[nodiscard]] std::vector<std::string> question(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{HEARTH_PROGRAM, "run", model_,          "Tell me about the sea.",
                                       "--max-tokens", "48",  "--temperature", "0.7",
                                       "--seed",       "3",   "--context",     "256"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  [[nodiscard]] std::string whole_answer() const {
    const auto whole = test::run_program(question(), at("owner"));
    EXPECT_EQ(whole.exit_code, 0) << whole.err;
    EXPECT_GT(whole.out.size(), 60u);
    return whole.out;
  }

  TestFolder folder_;
  std::string model_;
};

TEST_F(ClusterTest, MachinesThatJoinedAnswerAsOne) {
  const std::string whole = whole_answer();
  const Machine one = join("one"), two = join("two");
  const auto split = test::run_program(question({"--stages", one.address + "," + two.address}), at("owner"));
  EXPECT_EQ(split.exit_code, 0) << split.err;
  EXPECT_EQ(split.out, whole);
  const auto uneven =
      test::run_program(question({"--stages", two.address + "=11-30", "--speculate", "3"}), at("owner"));
  EXPECT_EQ(uneven.out, whole) << uneven.err << "the first layers by the owner, with guessed tokens";
  const std::vector<std::string> rounded{"--stages", one.address + "," + two.address, "--row-bits", "8", "--stats"};
  const auto first = test::run_program(question(rounded), at("owner")),
             again = test::run_program(question(rounded), at("owner"));
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_GT(first.out.size(), 60u) << "another answer, perhaps, but an answer";
  EXPECT_EQ(again.out, first.out);
  EXPECT_TRUE(first.err.contains("numbers of 8 bits between machines")) << first.err << "the answer says so";
  EXPECT_FALSE(split.err.contains("between machines")) << split.err;
}

TEST_F(ClusterTest, AKilledMachineIsReplacedInTheMiddleOfAnAnswer) {
  const std::string whole = whole_answer();
  const Machine one = join("one"), two = join("two"), spare = join("spare");
  Program asks(question({"--stages", one.address + "," + two.address, "--spare", spare.address}), at("owner"));
  wait_until(*two.program, "step 20\n");
  two.program->signal(SIGKILL);
  auto answer = asks.wait();
  EXPECT_EQ(answer.out, whole) << answer.err;
  EXPECT_TRUE(answer.err.contains("the chain goes on as")) << answer.err;
  Program again(question({"--stages", one.address + "," + spare.address}), at("owner"));
  wait_until(*spare.program, "epoch 1 step 15\n");
  one.program->signal(SIGKILL);
  spare.program->signal(SIGKILL);
  answer = again.wait();
  EXPECT_EQ(answer.out, whole) << answer.err << "the owner alone";
}

TEST_F(ClusterTest, AFrozenMachineIsReplacedAndItsReturnChangesNothing) {
  const std::string whole = whole_answer();
  const Machine one = join("one"), two = join("two");
  Program asks(question({"--stages", one.address + "," + two.address}), at("owner"));
  wait_until(*one.program, "step 20\n");
  one.program->signal(SIGSTOP);
  wait_until(asks, "the chain goes on as");
  one.program->signal(SIGCONT);
  const auto answer = asks.wait();
  EXPECT_EQ(answer.out, whole) << answer.err;
}

TEST_F(ClusterTest, AHeadElsewhereChangesNothingNorDoesItsLoss) {
  const std::string whole = whole_answer();
  Machine one = join("one"), two = join("two");
  const auto both = test::run_program(question({"--stages", two.address, "--head", one.address}), at("owner", "info"));
  EXPECT_EQ(both.out, whole) << both.err;
  EXPECT_TRUE(both.err.contains(one.address + " has the head")) << both.err;
  EXPECT_TRUE(one.program->err().contains("rows 40 of a head\n")) << "it was asked about each token";
  for (const int signal : {SIGSTOP, SIGKILL}) {
    Program asks(question({"--head", two.address}), at("owner"));
    wait_until(*two.program, signal == SIGSTOP ? "rows 20 of a head\n" : "rows 15 of a head\n");
    two.program->signal(signal);
    const auto answer = asks.wait();
    EXPECT_EQ(answer.out, whole) << answer.err;
    EXPECT_TRUE(answer.err.contains("--head " + two.address)) << answer.err << "it says so";
    if (signal == SIGSTOP) two = join("three");
  }
  const auto refused = test::run_program(question({"--head", one.address, "--memory", "1G"}), at("owner"));
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_TRUE(refused.err.contains("--memory")) << refused.err;
  const auto stranger = test::run_program(question({"--head", one.address}), at("nobody"));
  EXPECT_NE(stranger.exit_code, 0);
  EXPECT_TRUE(stranger.err.contains("hearth cluster init")) << stranger.err;
}

TEST_F(ClusterTest, StrangersGetNothing) {
  const Machine one = join("one");
  EXPECT_EQ(test::run_program({HEARTH_PROGRAM, "cluster", "init", "--name", "stranger"}, at("stranger")).exit_code, 0);
  const auto refused = test::run_program(question({"--stages", one.address}), at("stranger"));
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_TRUE(refused.err.contains(one.address)) << refused.err;
  const auto none = test::run_program(question({"--stages", one.address}), at("nobody"));
  EXPECT_NE(none.exit_code, 0);
  EXPECT_TRUE(none.err.contains("hearth cluster init")) << none.err;
}

}  // namespace
}  // namespace hearth
