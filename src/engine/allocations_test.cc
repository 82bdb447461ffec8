// Steps that allocate would be slow now and then, and fail where memory is short: every operator new of this program is counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/engine.h"

namespace {
std::atomic<int64_t> n_allocations{0};

void* counted(size_t bytes, size_t alignment) {
  ++n_allocations;
  void* memory = alignment > alignof(std::max_align_t)
                     ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                     : std::malloc(bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}
}  // namespace

// Not inlined: gcc would see malloc and free through one of a pair and not the other.
[[gnu::noinline]] void* operator new(size_t bytes) { return counted(bytes, 0); }
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {  // of std::stable_sort
  ++n_allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace hearth {
namespace {

Model load_family(std::string_view family, int context, int n_threads) {
  auto backend = create_backend("cpu", {.n_threads = n_threads, .isa = {}}).value();
  return load_model(std::string(HEARTH_TEST_DATA "/families/").append(family), std::move(backend),
                    {.context = context, .rows_max = 0, .progress = {}})
      .value();
}

class Allocations : public testing::TestWithParam<std::string> {};

TEST_P(Allocations, SteadyStepsOfTheDecoderHaveNone) {
  constexpr int kSequences = 3, kWarmSteps = 4, kSteps = 40;
  const Model model = load_family(GetParam(), 64, 2);
  Decoder& decoder = *model.decoder;
  const auto store =
      SequenceStore::create(*model.backend, decoder.config(),
                            {.kv_type = KvType::kI8, .positions_max = 64 * kSequences, .sequences_max = kSequences})
          .value();
  std::vector<SequenceId> ids;
  for (int i = 0; i < kSequences; ++i) ids.push_back(store->open().value());
  constexpr int kCount = 5;
  std::vector<Token> tokens(kSequences, 1), best(size_t{kSequences} * kCount);
  std::vector<float> best_logits(best.size()), logits(static_cast<size_t>(decoder.config().n_vocab));
  std::vector<SequenceRows> rows(kSequences);
  const std::vector<int32_t> wanted{0, 1, 2};
  int64_t before = 0;
  for (int step = 0; step < kWarmSteps + kSteps; ++step) {
    if (step == kWarmSteps) before = n_allocations;
    for (int i = 0; i < kSequences; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_TRUE(store->reserve(ids[at], 1));
      rows[at] = store->rows(ids[at], i, 1);
    }
    decoder.run({.tokens = tokens, .sequences = rows}, *store);
    for (const SequenceId id : ids) store->advance(id, 1);
    decoder.most_likely(wanted, kCount, best, best_logits);
    decoder.logits(std::span(wanted).first(1), logits);
  }
  EXPECT_EQ(n_allocations - before, 0) << "in " << kSteps << " steps";
}

INSTANTIATE_TEST_SUITE_P(Families, Allocations, testing::Values("llama", "gemma3", "qwen3", "lfm2", "mixtral"),
                         [](const auto& family) { return std::string(family.param); });

TEST(EngineAllocations, AnAnswerNeedsNoMorePerToken) {
  constexpr int kTokens = 160;
  auto engine = Engine::create(load_family("llama/model.gguf", 256, 2), {.parallel = 1, .drafts_max = 7}).value();
  for (const float temperature : {0.8f, 0.0f, 0.8f}) {
    Request request;
    request.prompt = {1, 2, 3};
    request.sampling.temperature = temperature;
    request.max_tokens = kTokens;
    request.ignore_eos = true;
    auto stream = engine->submit(request).value();
    stream->next();  // the rest is left in the stream, since reading allocates too
    const int64_t before = n_allocations;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const int64_t during = n_allocations - before;
    Piece rest = stream->next();
    const bool first_ever = engine->stats().requests == 1;  // tables grow to what they will be
    EXPECT_LT(during, first_ever ? kTokens / 2 : kTokens / 4)
        << "some for text and tokens that wait to be read, at temperature " << temperature;
    while (!rest.done) rest = stream->next();
  }
}

}  // namespace
}  // namespace hearth
