// The bound of the whole process, and how models are held to it.
#include "engine/memory_keeper.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/process_memory.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class MemoryKeeperTest : public testing::Test {
 protected:
  void group_limit(uint64_t bytes) const {
    folder_.write("root/proc/self/cgroup", "0::/\n");
    folder_.write("root/sys/fs/cgroup/memory.max", std::to_string(bytes));
  }
  std::unique_ptr<Catalog> catalog() const {
    const fs::path families = HEARTH_TEST_DATA "/families";
    auto library = std::make_shared<const ModelLibrary>(
        Store::open(folder_.path() / "home").value(),
        std::vector<GivenModel>{{"llama", families / "llama/model.gguf"}, {"gemma3", families / "gemma3/model.gguf"}},
        std::map<std::string, std::string>{});
    auto load = [](const ModelSource& source, uint64_t) -> Result<std::unique_ptr<LoadedModel>> {
      auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
      Model model = TRY(load_model(source.path, std::move(backend), {.context = 64, .rows_max = 0, .progress = {}}));
      auto loaded = std::make_unique<LoadedModel>();
      loaded->engine = TRY(Engine::create(std::move(model), {.parallel = 1}));
      return loaded;
    };
    auto planned = [](const ModelSource&) -> Result<int64_t> { return 1 << 20; };
    return Catalog::create(std::move(library),
                           {.loader = {.planned_bytes = planned, .load = load}, .keep_alive = kForever});
  }
  // The test's time limit is the clock.
  static void wait(auto condition) {
    while (!condition()) std::this_thread::sleep_for(1ms);
  }
  TestFolder folder_;
  fs::path root_ = folder_.path() / "root";
};

constexpr uint64_t kPlenty = uint64_t{1} << 40;

TEST_F(MemoryKeeperTest, ALimitThatIsSetReachesTheModels) {
  const auto models = catalog();
  const auto llama = models->acquire("llama").value();
  MemoryKeeper keeper({.bytes = kPlenty, .asked = false, .root = root_, .period = 5ms}, *models);
  EXPECT_EQ(keeper.bound(), kPlenty);
  EXPECT_EQ(llama->engine->stats().bytes_max, 0u) << "nobody asked for anything";
  ASSERT_TRUE(keeper.set_limit(resident_bytes() + (256 << 20)));
  wait([&] { return llama->engine->stats().bytes_max > 0; });
  EXPECT_EQ(keeper.set_limit(1000).error().code, Code::kInvalidArgument);
  const auto state = keeper.state();
  EXPECT_EQ(state.at("models").as_array().size(), 1u);
  EXPECT_GT(state.at("resident_bytes").to_number<uint64_t>(), 0u);
}

TEST_F(MemoryKeeperTest, AControlGroupThatShrinksIsFollowedAndPutsOutWhatRests) {
  const auto models = catalog();
  const auto llama = models->acquire("llama").value();
  models->acquire("gemma3", 1h).value();
  group_limit(kPlenty);
  MemoryKeeper keeper({.bytes = kPlenty / 2, .asked = false, .root = root_, .period = 5ms}, *models);
  EXPECT_EQ(models->loaded().size(), 2u);
  group_limit(64 << 20);  // less than this test takes
  wait([&] { return keeper.bound() == 32 << 20; });
  wait([&] { return models->loaded().size() == 1; });
  wait([&] { return !llama->engine->stats().memory_problem.empty(); });
  const auto state = keeper.state();
  EXPECT_NE(state.at("reason").as_string().find("control group"), std::string::npos);
  group_limit(kPlenty);
  wait([&] { return keeper.bound() == kPlenty / 2; });
  wait([&] { return llama->engine->stats().memory_problem.empty(); });
}

TEST(ShareMemory, IsInProportionWhereItIsScarce) {
  EXPECT_EQ(share_memory(std::vector<int64_t>{100, 300}, 500), (std::vector<int64_t>{100, 300}));
  EXPECT_EQ(share_memory(std::vector<int64_t>{100, 300}, 200), (std::vector<int64_t>{50, 150}));
  EXPECT_EQ(share_memory(std::vector<int64_t>{100, 300}, -5), (std::vector<int64_t>{0, 0}));
  EXPECT_TRUE(share_memory({}, 100).empty());
}

}  // namespace
}  // namespace hearth
