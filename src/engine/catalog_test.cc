// Many models by name: which are in memory, when they go, and what is refused.
#include "engine/catalog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "support/test_folder.h"

namespace hearth {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

// Three tiny models under names of their own; each is said to take 100 bytes.
class CatalogTest : public testing::Test {
 protected:
  std::shared_ptr<const ModelLibrary> library() const {
    const fs::path families = HEARTH_TEST_DATA "/families";
    return std::make_shared<const ModelLibrary>(Store::open(home_.path()).value(),
                                                std::vector<GivenModel>{{"llama", families / "llama/model.gguf"},
                                                                        {"qwen3", families / "qwen3"},
                                                                        {"Gemma3", families / "gemma3/model.gguf"},
                                                                        {"bert", families / "../encoders/bert"}},
                                                std::map<std::string, std::string>{{"gpt-4o", "llama"}});
  }
  std::unique_ptr<Catalog> catalog(int64_t memory_bytes_max, KeepAlive keep_alive = kForever) {
    auto load = [this](const ModelSource& source, uint64_t) -> Result<std::unique_ptr<LoadedModel>> {
      ++n_loads_;
      auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
      Model model = TRY(load_model(source.path, std::move(backend), {.context = 64, .rows_max = 0, .progress = {}}));
      auto loaded = std::make_unique<LoadedModel>();
      loaded->engine = TRY(Engine::create(std::move(model), {.parallel = 1}));
      return loaded;
    };
    auto planned = [](const ModelSource&) -> Result<int64_t> { return 100; };
    return Catalog::create(library(), {.loader = {.planned_bytes = planned, .load = load},
                                       .memory_bytes_max = memory_bytes_max,
                                       .keep_alive = keep_alive});
  }
  static std::vector<std::string> names(const Catalog& catalog) {
    std::vector<std::string> all;
    for (const LoadedState& state : catalog.loaded()) all.push_back(state.model->name);
    return all;
  }
  static Piece answer(LoadedModel& model) {
    Request request;
    request.prompt = {1, 2};
    request.max_tokens = 2;
    const auto stream = model.engine->submit(std::move(request)).value();
    for (;;)
      if (Piece piece = stream->next(); piece.done) return piece;
  }
  static void wait_until_empty(const Catalog& catalog) {  // the test's time limit is the clock
    while (!catalog.loaded().empty()) std::this_thread::sleep_for(1ms);
  }
  TestFolder home_;
  std::atomic<int> n_loads_{0};
};

using Names = std::vector<std::string>;

TEST_F(CatalogTest, NamesAreFoundInAnyFormClientsUseButNeverAsPaths) {
  const auto all = library();
  for (const char* name : {"llama", "LLaMA", "llama:latest", "gpt-4o"}) {
    const auto found = all->find(name);
    ASSERT_TRUE(found) << name << ": " << found.error().message;
    EXPECT_EQ(found->name, "llama");
  }
  const std::string path = HEARTH_TEST_DATA "/families/llama/model.gguf";
  for (const std::string& name : {path, "file://" + path, std::string("../llama"), std::string(), std::string("lama")})
    EXPECT_EQ(all->find(name).error().code, Code::kNotFound) << name;
}

TEST_F(CatalogTest, TheListSaysWhatAModelIs) {
  const auto list = library()->list();
  ASSERT_EQ(list.size(), 4u);
  const ListedModel& qwen = list.back();
  EXPECT_EQ(qwen.source.name, "qwen3");
  EXPECT_EQ(qwen.details.format, "gguf");
  EXPECT_EQ(qwen.details.family, "qwen3");
  EXPECT_TRUE(qwen.details.completion);
  EXPECT_FALSE(qwen.details.tools);
  EXPECT_GT(qwen.details.context_max, 0);
  EXPECT_GT(qwen.source.bytes, 30'000u);
  EXPECT_EQ(qwen.source.digest.size(), 64u);
  EXPECT_EQ(qwen.source.modified.size(), 20u) << qwen.source.modified;
  EXPECT_TRUE(list[1].details.embedding && !list[1].details.completion) << list[1].source.name;
  EXPECT_EQ(parameter_count_text(134'515'008), "134.52M");
}

TEST_F(CatalogTest, SeveralThatAskForOneModelLoadItOnce) {
  const auto models = catalog(0);
  std::vector<std::future<LoadedModel*>> askers;
  std::vector<std::shared_ptr<LoadedModel>> held(6);
  for (auto& place : held)
    askers.push_back(std::async(std::launch::async, [&] {
      place = models->acquire("llama").value();
      return place.get();
    }));
  LoadedModel* first = askers.front().get();
  for (size_t i = 1; i < askers.size(); ++i) EXPECT_EQ(askers[i].get(), first);
  EXPECT_EQ(n_loads_, 1);
  EXPECT_EQ(models->loaded().front().holders, 6);
  EXPECT_NE(first->engine, nullptr);
}

TEST_F(CatalogTest, TheModelUsedLeastRecentlyGoesAndOneInUseStays) {
  const auto models = catalog(250);
  EXPECT_EQ(models->room_bytes(), 250);
  auto llama = models->acquire("llama").value();
  models->acquire("qwen3").value();
  EXPECT_EQ(models->room_bytes(), 50);
  EXPECT_FALSE(catalog(0)->room_bytes()) << "no bound";
  EXPECT_EQ(names(*models), (Names{"llama", "qwen3"}));
  auto gemma = models->acquire("gemma3").value();
  EXPECT_EQ(names(*models), (Names{"Gemma3", "llama"})) << "llama is older but in use";
  const auto refused = models->acquire("qwen3");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kBusy);
  EXPECT_NE(refused.error().message.find("of 250 for all models 200 are taken"), std::string::npos)
      << refused.error().message;
  llama.reset();
  EXPECT_TRUE(models->acquire("qwen3"));
  EXPECT_EQ(names(*models), (Names{"Gemma3", "qwen3"}));
  EXPECT_EQ(catalog(99)->acquire("llama").error().code, Code::kLimit);
}

TEST_F(CatalogTest, AModelGoesWhenItsTimeIsOver) {
  const auto models = catalog(0, 5min);
  {
    auto held = models->acquire("llama").value();
    EXPECT_TRUE(models->acquire("llama", KeepAlive(0)));
    EXPECT_EQ(names(*models), Names{"llama"}) << "somebody still holds it";
  }
  wait_until_empty(*models);
  models->acquire("llama").value();
  const auto expires = models->loaded().at(0).expires;
  ASSERT_TRUE(expires);
  EXPECT_GT(*expires, std::chrono::system_clock::now() + 1min);
  models->acquire("llama", KeepAlive(-7)).value();
  EXPECT_FALSE(models->loaded().at(0).expires) << "a negative time is for ever";
  EXPECT_TRUE(models->unload("llama:latest"));
  EXPECT_TRUE(models->loaded().empty()) << "whoever asked for it finds it gone";
  EXPECT_FALSE(models->unload("llama"));
}

TEST_F(CatalogTest, WhoHoldsAModelKeepsItEvenWithoutTheCatalog) {
  auto models = catalog(0);
  const auto held = models->acquire("llama").value();
  models.reset();
  EXPECT_EQ(answer(*held).usage.prompt_tokens, 2);
}

TEST_F(CatalogTest, AFailureIsToldToAllWhoWaitedAndTriedAnewNextTime) {
  auto broken = Catalog::create(
      library(), {.loader = {.planned_bytes = [](const ModelSource&) -> Result<int64_t> { return 1; },
                             .load = [this](const ModelSource&, uint64_t) -> Result<std::unique_ptr<LoadedModel>> {
                               return fail(Code::kCorrupt, "attempt {}", ++n_loads_);
                             }}});
  EXPECT_EQ(broken->acquire("llama").error().message, "attempt 1");
  EXPECT_EQ(broken->acquire("llama").error().message, "attempt 2");
  EXPECT_TRUE(broken->loaded().empty());
}

TEST_F(CatalogTest, ManyThreadsOverManyModelsNeverExceedTheMemory) {
  const auto models = catalog(200, KeepAlive(0));
  std::vector<std::jthread> threads;
  std::atomic<int> n_answers{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const std::array<const char*, 3> all{"llama", "qwen3", "gemma3"};
      for (int i = 0; i < 12; ++i) {
        const auto model = models->acquire(all[static_cast<size_t>((i + t) % 3)]);
        if (!model) {
          EXPECT_EQ(model.error().code, Code::kBusy) << model.error().message;
          continue;
        }
        n_answers += answer(**model).usage.completion_tokens;
        EXPECT_LE(models->loaded().size(), 2u);
      }
    });
  threads.clear();
  EXPECT_GT(n_answers, 0);
  wait_until_empty(*models);
}

TEST(ChooseEvicted, TakesTheOldestFirstAndThoseKeptForEverLast) {
  const std::chrono::steady_clock::time_point zero;
  const std::vector<IdleModel> idle{{0, 50, true, zero}, {1, 50, false, zero + 2s}, {2, 50, false, zero + 1s}};
  EXPECT_EQ(choose_evicted(idle, 40), (std::vector<size_t>{2}));
  EXPECT_EQ(choose_evicted(idle, 60), (std::vector<size_t>{2, 1}));
  EXPECT_EQ(choose_evicted(idle, 150), (std::vector<size_t>{2, 1, 0}));
  EXPECT_TRUE(choose_evicted(idle, 151).empty()) << "nothing goes where it would not help";
  EXPECT_TRUE(choose_evicted(idle, 0).empty());
}

}  // namespace
}  // namespace hearth
