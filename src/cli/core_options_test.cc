// --cores with the threads and the model of this machine, whose kinds of cores are made up.
#include "cli/core_options.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "base/topology.h"
#include "engine/engine.h"
#include "model/golden_models.h"
#include "support/fake_system.h"

namespace hearth::cli {
namespace {

// The first of the cores that there are is a slow one, the others are fast.
void make_kinds(const test::FakeSystem& system) {
  for (const int cpu : allowed_cpus())
    system.write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity",
                 cpu == allowed_cpus().front() ? "300" : "1000");
}

std::shared_ptr<power::Governor> governor_of(const test::FakeSystem& system) {
  return power::Governor::start({.sensors = {.root = system.root(), .now = {}, .own_cpu = {}}});
}

std::vector<Token> answer(Model model) {
  const auto engine = Engine::create(std::move(model), {}).value();
  Request request{.prompt = {1, 5, 9, 20, 31}, .max_tokens = 24};
  request.ignore_eos = true;
  const auto stream = engine->submit(std::move(request)).value();
  std::vector<Token> tokens;
  for (Piece piece; !piece.done;) {
    piece = stream->next();
    tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
  }
  return tokens;
}

Model load_on(int n_threads) {
  auto backend = create_backend("cpu", {.n_threads = n_threads, .isa = {}}).value();
  return load_model(kGoldenFolder / "llama/model.gguf", std::move(backend),
                    {.context = 128, .rows_max = 0, .progress = {}})
      .value();
}

TEST(CoreOptions, TheModelsOwnStepsDecideTheThreadsStayThereAndTheAnswerIsTheSame) {
  if (allowed_cpus().size() < 2) GTEST_SKIP() << "one core cannot be of two kinds";
  const test::FakeSystem system;
  make_kinds(system);
  const auto governor = governor_of(system);
  for (const char* cores : {"auto", "all"}) {
    int n_threads = 0;
    PowerOptions power;
    power.cores = cores;
    const CoreOptions options = CoreOptions::prepare(power, n_threads, system.root()).value();
    EXPECT_EQ(n_threads, static_cast<int>(allowed_cpus().size()));
    const SettleCores settle = options.settle(governor);
    ASSERT_TRUE(settle);
    Model first = load_on(n_threads), second = load_on(n_threads);
    ASSERT_TRUE(settle(first, KvType::kF16));
    ASSERT_TRUE(settle(second, KvType::kF16));
    EXPECT_EQ(allowed_cpus().size(), static_cast<size_t>(n_threads)) << "who asks stays free";
    const std::vector<Token> plain = answer(load_on(1));
    EXPECT_EQ(answer(std::move(first)), plain);
    EXPECT_EQ(answer(std::move(second)), plain);
  }
  const std::string told = boost::json::serialize(governor->state());
  EXPECT_TRUE(told.contains("of 2 kinds: ") && told.contains("(estimated)")) << told;
  EXPECT_EQ(told.find("(estimated)"), told.rfind("(estimated)")) << "the second model does as the first: " << told;
  EXPECT_TRUE(told.contains("cores of all 2 kinds, as asked for")) << told;
}

TEST(CoreOptions, WhereThereIsNothingToChooseThatIsSaidAndNothingHappens) {
  const test::FakeSystem system;
  const auto governor = governor_of(system);
  int n_threads = 0;
  PowerOptions power;
  EXPECT_FALSE(CoreOptions::prepare(power, n_threads, system.root()).value().settle(governor));
  EXPECT_FALSE(boost::json::serialize(governor->state()).contains("cores")) << "nobody asked";
  power.cores = "auto";
  EXPECT_FALSE(CoreOptions::prepare(power, n_threads, system.root()).value().settle(governor));
  EXPECT_EQ(n_threads, 0);
  EXPECT_TRUE(boost::json::serialize(governor->state()).contains("--cores auto: the system does not tell kinds"));
  for (const int cpu : allowed_cpus())
    system.write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity", "1024");
  EXPECT_FALSE(CoreOptions::prepare(power, n_threads, system.root()).value().settle(governor));
  EXPECT_TRUE(boost::json::serialize(governor->state()).contains("there is one kind of cores"));
}

TEST(CoreOptions, ThreadsAndCoresCannotBothBeSaid) {
  if (allowed_cpus().size() < 2) GTEST_SKIP() << "one core cannot be of two kinds";
  const test::FakeSystem system;
  make_kinds(system);
  PowerOptions power;
  power.cores = "all";
  int n_threads = 3;
  const auto refused = CoreOptions::prepare(power, n_threads, system.root());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().message.contains("leave out --threads 3")) << refused.error().message;
}

}  // namespace
}  // namespace hearth::cli
