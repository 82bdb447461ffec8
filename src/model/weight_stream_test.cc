// Weights that are read as they are needed: the same bits as in memory, within the bytes that were given.
#include "model/weight_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <random>

#include "base/process_memory.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/golden_models.h"
#include "model/model.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

// Layers of very different sizes.
WeightSizes some_layers() {
  WeightSizes sizes{.layers = {}, .others = 1000, .experts = {}};
  for (uint64_t i = 0; i < 12; ++i) sizes.layers.push_back({400, 100, 100, 400, 2000 + 10 * i, 2000, 2000});
  return sizes;
}

TEST(StreamPlan, AllStaysWhereItFits) {
  const auto plan = plan_stream(some_layers(), 200000);
  ASSERT_EQ(message(plan), "");
  EXPECT_EQ(plan->slot_bytes, 0U);
  EXPECT_EQ(plan->read_bytes, 0U);
}

TEST(StreamPlan, ReadsLittleMoreThanWhatDoesNotFit) {
  const WeightSizes sizes = some_layers();
  const auto& layers = sizes.layers;
  const uint64_t total = plan_stream(sizes, 1 << 30)->resident_bytes;
  for (uint64_t bytes = total / 4; bytes < total; bytes += 501) {
    const auto plan = plan_stream(sizes, bytes);
    ASSERT_EQ(message(plan), "");
    EXPECT_LE(plan->resident_bytes, bytes);
    uint64_t read = 0;
    for (size_t i = 0; i < layers.size(); ++i)
      for (size_t m = 0; m < layers[i].size(); ++m) read += plan->streamed[i][m] ? layers[i][m] : 0;
    EXPECT_EQ(read, plan->read_bytes);
    // At most two slots and what matrices cannot be cut by.
    EXPECT_LE(read, (total - bytes) + 2 * plan->slot_bytes + 2 * 2110) << bytes;
  }
}

TEST(StreamPlan, TooFewBytesAreAnErrorThatSaysHowManyWouldDo) {
  const auto plan = plan_stream(some_layers(), 10000);
  ASSERT_FALSE(plan);
  const uint64_t least = 1000 + 2 * 7110;
  EXPECT_NE(plan.error().message.find(std::to_string(least)), std::string::npos) << plan.error().message;
  EXPECT_TRUE(plan_stream(some_layers(), least));
}

// A mixture beside 12,000 bytes of all else: 4 layers of 16 experts of 100 bytes, of which a row uses 2.
WeightSizes some_experts() {
  WeightSizes sizes{.layers = {}, .others = 4000, .experts = {}};
  sizes.layers.assign(4, {500, 1500});
  sizes.experts = {.n = 64, .bytes = 6400, .slot_bytes = 100, .layers = 4, .used = 2};
  return sizes;
}

struct ExpertCase {
  uint64_t bytes, slots, streamed, read;
};

// Experts give way before what every token needs does.
TEST(StreamPlan, KeepsAsManyExpertsAsFitBesideAllElse) {
  constexpr ExpertCase kCases[] = {
      {18400, 64, 0, 0},    // all
      {18399, 63, 0, 13},   // 8 experts a row, one of 64 from disk
      {15200, 32, 0, 400},  // half of them
      {12200, 2, 0, 775},   // of one row in one layer
  };
  for (const ExpertCase& each : kCases) {
    SCOPED_TRACE(each.bytes);
    const auto plan = plan_stream(some_experts(), each.bytes);
    ASSERT_EQ(message(plan), "");
    EXPECT_EQ(plan->expert_slots, each.slots);
    EXPECT_EQ(plan->slot_bytes, each.streamed);
    EXPECT_EQ(plan->read_bytes, each.read);
    EXPECT_LE(plan->resident_bytes, each.bytes);
  }
  const auto streamed = plan_stream(some_experts(), 10000);
  ASSERT_EQ(message(streamed), "");
  EXPECT_GT(streamed->slot_bytes, 0U) << "what is not experts is streamed, too";
  EXPECT_GE(streamed->expert_slots, 2U);
  EXPECT_LE(streamed->resident_bytes, 10000U);
  const auto none = plan_stream(some_experts(), 8199);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("8200"), std::string::npos) << none.error().message;
  EXPECT_TRUE(plan_stream(some_experts(), 8200));
}

struct Run {
  int rows = 1;  // of a step
  int bits = 8;
  std::function<void(int token)> between{};  // before each step
};

// Of twelve tokens of two sequences that begin alike.
std::vector<float> logits(Decoder& decoder, Backend& backend, const Run& run = {}) {
  const auto store =
      SequenceStore::create(backend, decoder.config(), {.positions_max = 64, .sequences_max = 2}).value();
  const std::array ids{store->open().value(), store->open().value()};
  for (const SequenceId id : ids) EXPECT_TRUE(store->reserve(id, 12));
  std::vector<std::vector<float>> all(2);
  for (int i = 0; i < 12; i += run.rows) {
    if (run.between) run.between(i);
    std::vector<int32_t> tokens;
    for (int sequence = 0; sequence < 2; ++sequence)
      for (int row = i; row < i + run.rows; ++row)
        tokens.push_back((row * (row > 6 ? 37 + sequence : 37) + 11) % decoder.config().n_vocab);
    const std::array rows{store->rows(ids[0], 0, run.rows), store->rows(ids[1], run.rows, run.rows)};
    decoder.run({.tokens = tokens, .sequences = rows}, *store);
    for (size_t sequence = 0; sequence < 2; ++sequence) {
      store->advance(ids[sequence], run.rows);
      std::vector<int32_t> wanted;
      for (int row = 0; row < run.rows; ++row) wanted.push_back(static_cast<int32_t>(sequence) * run.rows + row);
      std::vector<float> some(wanted.size() * static_cast<size_t>(decoder.config().n_vocab));
      decoder.logits(wanted, some);
      all[sequence].insert(all[sequence].end(), some.begin(), some.end());
    }
  }
  all[0].insert(all[0].end(), all[1].begin(), all[1].end());
  return all[0];
}

std::vector<float> logits(const Checkpoint& checkpoint, WeightStream* weights, const Run& run = {}) {
  const auto backend = create_backend("cpu", {.n_threads = 2, .isa = ""}).value();
  const auto decoder =
      Decoder::load(checkpoint, *backend,
                    {.context = 32, .rows_max = 0, .progress = {}, .weights = weights, .bits = run.bits})
          .value();
  return logits(*decoder, *backend, run);
}

uint64_t least_bytes(const Checkpoint& pack, Backend& backend, uint64_t enough) {
  uint64_t low = 0;
  while (enough - low > 1)
    (WeightStream::plan(pack, backend, low + (enough - low) / 2) ? enough : low) = low + (enough - low) / 2;
  return enough;
}

class Packs : public testing::Test {
 protected:
  // Of each of the tiny models the pack, in `path_`, and the bytes of all its weights and the least that works.
  void for_each(const std::function<void(const Checkpoint& pack, uint64_t all, uint64_t least)>& body) {
    for (const auto& entry : std::filesystem::directory_iterator(kGoldenFolder)) {
      SCOPED_TRACE(entry.path());
      const auto original = open_checkpoint(entry.path());
      if (!original || !write_pack(*original, path_, 1)) continue;
      const Checkpoint pack = open_checkpoint(path_).value();
      const uint64_t all = WeightStream::plan(pack, *backend_, 1 << 30)->resident_bytes;
      body(pack, all, least_bytes(pack, *backend_, all));
    }
  }

  TestFolder folder_;
  std::filesystem::path path_ = folder_.path() / "model.pack";
  std::unique_ptr<Backend> backend_ = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
};

// Every family, at budgets from all to the least, must answer as if all were in memory, however many rows a step has.
TEST_F(Packs, GiveTheLogitsOfAllInMemoryInAnyBudget) {
  int streamed = 0, mixtures = 0;
  for_each([&](const Checkpoint& pack, uint64_t all, uint64_t least) {
    const std::vector<float> expected = logits(pack, nullptr);
    for (uint64_t eighth = 0; eighth <= 8; ++eighth) {
      const uint64_t bytes = all - (all - least) * eighth / 8;
      const auto stream = WeightStream::create(pack, bytes);
      ASSERT_EQ(message(stream), "");
      EXPECT_LE((*stream)->plan().resident_bytes, bytes);
      streamed += (*stream)->plan().slot_bytes > 0;
      mixtures += (*stream)->experts() != nullptr;
      for (const int rows : {1, 4}) EXPECT_EQ(logits(pack, stream->get(), {.rows = rows}), expected) << bytes;
      // A step that ends early leaves layers in the slots that nobody wanted.
      auto end_early = [&](int) { (*stream)->acquire(0), (*stream)->release(0); };
      EXPECT_EQ(logits(pack, stream->get(), {.rows = 2, .between = end_early}), expected) << bytes;
      EXPECT_EQ((*stream)->expert_misses() > 0, (*stream)->experts() != nullptr);
    }
  });
  EXPECT_GT(streamed, 20);
  EXPECT_GT(mixtures, 10);
}

// A bound that is changed while it runs costs no token: lower, lower still, and up again.
TEST_F(Packs, GiveTheSameLogitsWhileTheBudgetChanges) {
  for_each([&](const Checkpoint& pack, uint64_t all, uint64_t least) {
    const std::vector<float> expected = logits(pack, nullptr);
    const auto stream = WeightStream::create(pack, all).value();
    EXPECT_EQ(stream->plan().read_bytes, 0U);
    auto change = [&](int token) {
      const uint64_t bytes = all - (all - least) * static_cast<uint64_t>(std::min(token % 12, 8)) / 8;
      ASSERT_EQ(message(stream->set_bytes_max(bytes)), "");
      EXPECT_LE(stream->plan().resident_bytes, bytes);
    };
    EXPECT_EQ(logits(pack, stream.get(), {.between = change}), expected);
    ASSERT_EQ(message(stream->set_bytes_max(least)), "");
    const auto refused = stream->set_bytes_max(least - 1);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kLimit);
    EXPECT_EQ(logits(pack, stream.get()), expected) << "a bound that cannot be held changes nothing";
  });
}

// A mixture of 48 MiB of experts beside 4 MiB: what a lower bound takes away must go back to the system, not into a pool.
TEST_F(Packs, GiveMemoryBackWhenTheBudgetShrinks) {
  const Checkpoint tiny = open_checkpoint(kGoldenFolder / "qwen3-moe/model.gguf").value();
  GgufWriter settings;
  for (const MetadataEntry& entry : tiny.metadata().entries())
    if (entry.key == "qwen3moe.embedding_length")
      settings.set(entry.key, uint32_t{256});
    else if (entry.key == "qwen3moe.expert_feed_forward_length")
      settings.set(entry.key, uint32_t{1024});
    else if (entry.key == "qwen3moe.expert_count")
      settings.set(entry.key, uint32_t{8});
    else
      settings.set(entry.key, entry.value);
  const auto bytes = settings.bytes();
  Checkpoint::Parts parts;
  parts.metadata = parse_gguf(bytes).value().metadata;
  std::vector<float> noise(8 * 256 * 1024);
  std::mt19937 random(1);
  for (float& value : noise) value = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
  for (TensorRef tensor : tiny.tensors()) {
    for (uint64_t& side : tensor.shape) side = side == 32 ? 256 : side == 16 && tensor.n_dims == 3 ? 1024 : side;
    if (tensor.n_dims == 3) tensor.shape[2] = 8;
    if (tensor.name.contains("ffn_gate_inp")) tensor.shape[1] = 8;
    if (tensor.name.contains("attn_output")) tensor.shape[0] = 32;
    if (tensor.name.contains("attn_q.")) tensor.shape[1] = 32;
    tensor.type = Type::kF32;
    tensor.data = std::as_bytes(std::span(noise)).first(tensor_bytes(tensor).value());
    parts.tensors.push_back(std::move(tensor));
  }
  ASSERT_EQ(message(write_pack(Checkpoint::create("large", std::move(parts)).value(), path_, 1)), "");
  const Checkpoint pack = open_checkpoint(path_).value();
  const uint64_t all = WeightStream::plan(pack, *backend_, 1 << 30)->resident_bytes;
  const auto stream = WeightStream::create(pack, all - (4 << 20)).value();
  EXPECT_EQ(logits(pack, stream.get(), {.rows = 4}), logits(pack, nullptr, {.rows = 4}));
  const uint64_t many = stream->plan().expert_slots;
  for (int cycle = 0; cycle < 3; ++cycle) {
    ASSERT_EQ(message(stream->set_bytes_max(all - (4 << 20))), "");
    (void)logits(pack, stream.get(), {.rows = 4});
    const uint64_t before = resident_bytes();
    ASSERT_EQ(message(stream->set_bytes_max(12 << 20)), "");
    EXPECT_LT(stream->plan().expert_slots, many);
    EXPECT_LT(resident_bytes() + (12 << 20), before);
  }
}

// Both planes of nested experts lie in their slot, read or not.
TEST_F(Packs, OfNestedExpertsAreTheSameAtEightBitsAndFour) {
  std::vector<std::vector<std::byte>> memory;
  const Checkpoint original = open_checkpoint(kGoldenFolder / "qwen3-moe").value();
  const Checkpoint nested = encoded(original, info(Type::kI8), memory);
  ASSERT_EQ(message(write_pack(nested, path_, 1)), "");
  const Checkpoint pack = open_checkpoint(path_).value();
  const uint64_t all = WeightStream::plan(pack, *backend_, 1 << 30)->resident_bytes;
  const auto stream = WeightStream::create(pack, least_bytes(pack, *backend_, all)).value();
  ASSERT_NE(stream->experts(), nullptr);
  for (const int bits : {8, 4, 8})
    EXPECT_EQ(logits(pack, stream.get(), {.bits = bits}), logits(pack, nullptr, {.bits = bits})) << bits;
}

// Rather a clear end than an answer from weights that are not there.
TEST_F(Packs, ThatCanNoLongerBeReadEndTheProgram) {
  ASSERT_EQ(message(write_pack(open_checkpoint(kGoldenFolder / "qwen3-moe").value(), path_, 1)), "");
  const auto use = [&] {
    const Checkpoint pack = open_checkpoint(path_).value();
    const uint64_t all = WeightStream::plan(pack, *backend_, 1 << 30)->resident_bytes;
    const auto stream = WeightStream::create(pack, all - 4096).value();
    const auto segments = parse_pack(pack.files().front().bytes()).value().manifest.segments;
    const uint64_t end = std::ranges::find(segments, SegmentKind::kExpert, &PackSegment::kind)->offset;
    (void)logits(pack, stream.get(), {.between = [&](int) { std::filesystem::resize_file(path_, end); }});
  };
  EXPECT_EXIT(use(), testing::ExitedWithCode(info(Code::kIo).exit_code), "weights can no longer be read.*model.pack");
}

// What a pack says of its experts is checked before anything is laid out by it.
TEST_F(Packs, WithExpertsThatDoNotBelongTogetherAreRefused) {
  ASSERT_EQ(message(write_pack(open_checkpoint(kGoldenFolder / "qwen3-moe").value(), path_, 1)), "");
  const Checkpoint pack = open_checkpoint(path_).value();
  auto refusal = [&](const std::function<void(TensorRef&)>& change) {
    Checkpoint::Parts parts;
    parts.kind = pack.kind();
    parts.packed = true;
    parts.config = pack.config();
    parts.files.push_back(MappedFile::open(path_).value());
    for (TensorRef tensor : pack.tensors()) {
      if (tensor.name == "blk.1.ffn_up_exps.weight") change(tensor);
      parts.tensors.push_back(std::move(tensor));
    }
    const Checkpoint forged = Checkpoint::create(path_, std::move(parts)).value();
    return message(WeightStream::plan(forged, *backend_, 1 << 30)) + message(WeightStream::create(forged, 1 << 30));
  };
  EXPECT_EQ(refusal([](TensorRef&) {}), "");
  EXPECT_NE(refusal([](TensorRef& up) { up.panels.pop_back(); }).find("of 4 experts, another one of its layer of 5"),
            std::string::npos);
  EXPECT_NE(refusal([](TensorRef& up) { up.name = "blk.2000000000.ffn_up_exps.weight"; }).find("layer 2000000000"),
            std::string::npos);
}

// A model that is loaded goes from mapped to streamed and back, and stays what it is where that cannot be.
TEST(WeightStream, AModelCanBeBoundWhileItIsLoaded) {
  const TestFolder folder;
  const auto path = folder.path() / "model.pack";
  const auto load = [&](const std::filesystem::path& from) {
    return load_model(from, create_backend("cpu", {.n_threads = 2, .isa = ""}).value(),
                      {.context = 32, .rows_max = 0, .progress = {}})
        .value();
  };
  const auto source = kGoldenFolder / "smollm3";
  ASSERT_TRUE(write_pack(open_checkpoint(source).value(), path, 1));
  const std::vector<float> expected = logits(open_checkpoint(path).value(), nullptr);
  Model model = load(path);
  const uint64_t all = WeightStream::plan(*model.checkpoint, *model.backend, UINT64_MAX)->resident_bytes;
  uint64_t least = all;
  while (WeightStream::plan(*model.checkpoint, *model.backend, least - 4096)) least -= 4096;
  ASSERT_LT(least, all);
  for (const uint64_t bytes : {least, all - 1, all, least, all}) {
    ASSERT_EQ(message(bound_weights(model, bytes)), "");
    EXPECT_EQ(model.weights->plan().read_bytes > 0, bytes < all);
    EXPECT_EQ(logits(*model.decoder, *model.backend), expected) << bytes << " of " << all;
  }
  ASSERT_TRUE(bound_weights(model, least));
  EXPECT_EQ(bound_weights(model, 100).error().code, Code::kLimit);
  EXPECT_EQ(logits(*model.decoder, *model.backend), expected);
  Model loose = load(source);
  EXPECT_TRUE(bound_weights(loose, all));
  EXPECT_EQ(bound_weights(loose, 100).error().code, Code::kUnsupported) << "there is no pack to read from";
}

}  // namespace
}  // namespace hearth
