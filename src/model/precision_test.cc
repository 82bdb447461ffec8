// Models whose matrices have two planes, read at 8 and at 4 bits.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <deque>

#include "model/golden_models.h"
#include "model/memory_plan.h"
#include "model/model.h"
#include "model/sequence.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

constexpr int kContext = 64;

struct Running {
  std::unique_ptr<Backend> backend = create_backend("cpu", {.n_threads = 2, .isa = ""}).value();
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<SequenceStore> store;
  SequenceId id;

  explicit Running(const Checkpoint& checkpoint, int bits = 8)
      : decoder(Decoder::load(checkpoint, *backend, {.context = kContext, .rows_max = 0, .progress = {}, .bits = bits})
                    .value()),
        store(SequenceStore::create(*backend, decoder->config(),
                                    {.kv_type = KvType::kF16, .positions_max = kContext, .sequences_max = 1})
                  .value()),
        id(store->open().value()) {}

  // Logits of the next `count` tokens.
  std::vector<float> run(int count) {
    std::vector<int32_t> tokens, wanted;
    const int n_vocab = decoder->config().n_vocab;
    for (int i = 0; i < count; ++i) {
      tokens.push_back(((store->length(id) + i) * 37 + 11) % n_vocab);
      wanted.push_back(i);
    }
    EXPECT_TRUE(store->reserve(id, count));
    const SequenceRows rows = store->rows(id, 0, count);
    decoder->run({.tokens = tokens, .sequences = {&rows, 1}}, *store);
    store->advance(id, count);
    std::vector<float> logits(static_cast<size_t>(count) * static_cast<size_t>(n_vocab));
    decoder->logits(wanted, logits);
    return logits;
  }
  void set_all(int bits) const {
    for (int unit = 0; unit < decoder->n_units(); ++unit) decoder->set_bits(unit, bits);
  }
};

class Precision : public testing::Test {
 protected:
  // Golden model `name` with all matrices in I8.
  Checkpoint nested(const std::string& name, std::vector<std::vector<std::byte>>& memory) {
    return encoded(originals_.emplace_back(open_checkpoint(kGoldenFolder / name).value()), info(Type::kI8), memory);
  }
  TestFolder folder_;
  std::deque<Checkpoint> originals_;  // what the others point to
};

// Reading less must not be a third result of its own: what there is at 4 bits is the model of the high codes.
TEST_F(Precision, At4BitsAModelIsThatOfItsHighCodes) {
  for (const char* name : {"llama", "mixtral", "gemma3", "lfm2"}) {  // with a head; experts; a tied one; convolutions
    SCOPED_TRACE(name);
    std::vector<std::vector<std::byte>> memory;
    const Checkpoint whole = nested(name, memory), high = without_low_codes(whole, memory);
    ASSERT_EQ(message(write_pack(whole, folder_.path() / "whole.pack", 1)), "");
    const Checkpoint pack = open_checkpoint(folder_.path() / "whole.pack").value();
    Running expected(high), read(whole, 4), mapped(pack, 4), at_8(whole);
    EXPECT_EQ(read.decoder->precision(), "4");
    const std::vector<float> logits = expected.run(12);
    EXPECT_EQ(read.run(12), logits);
    EXPECT_EQ(mapped.run(12), logits);
    EXPECT_NE(at_8.run(12), logits);
  }
}

TEST_F(Precision, SwitchingForthAndBackIsAsIfNothingHadBeen) {
  std::vector<std::vector<std::byte>> memory;
  const Checkpoint whole = nested("llama", memory);
  Running never(whole), switched(whole);
  EXPECT_EQ(switched.run(10), never.run(10));
  switched.set_all(4);
  EXPECT_NE(switched.run(5), never.run(5));
  switched.set_all(8);
  for (Running* each : {&never, &switched}) each->store->truncate(each->id, 10);
  EXPECT_EQ(switched.run(8), never.run(8));
}

// Every unit by itself: what is said of one is not done to another.
TEST_F(Precision, IsChosenForEachLayer) {
  std::vector<std::vector<std::byte>> memory;
  const Checkpoint whole = nested("llama", memory);
  Running running(whole);
  const std::vector<float> at_8 = running.run(6);
  std::vector<std::vector<float>> seen{at_8};
  for (int unit = 0; unit < running.decoder->n_units(); ++unit) {
    running.set_all(8);
    running.decoder->set_bits(unit, 4);
    EXPECT_NE(running.decoder->precision(), "8");
    running.store->truncate(running.id, 0);
    seen.push_back(running.run(6));
    for (size_t i = 0; i + 1 < seen.size(); ++i) EXPECT_NE(seen[i], seen.back()) << "unit " << unit;
  }
  running.decoder->set_bits(0, 4);
  running.decoder->set_bits(running.decoder->n_units() - 1, 8);
  EXPECT_EQ(running.decoder->precision(), fmt::format("4*1 8*{}", running.decoder->n_units() - 1));
}

// A flag that does nothing would be believed.
TEST_F(Precision, FourBitsOfAModelWithoutLowPlanesIsAnError) {
  const fs::path path = kGoldenFolder / "llama/model.gguf";
  const auto loaded = load_model(path, create_backend("cpu", {.n_threads = 1, .isa = ""}).value(),
                                 {.context = kContext, .rows_max = 0, .progress = {}, .bits = 4});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kInvalidArgument);
  EXPECT_NE(loaded.error().message.find("has no low planes"), std::string::npos) << loaded.error().message;
  EXPECT_NE(loaded.error().message.find("llama/model.gguf"), std::string::npos) << loaded.error().message;
}

TEST_F(Precision, ThePlanTellsTheBytesOfAToken) {
  std::vector<std::vector<std::byte>> memory;
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  for (const char* name : {"llama", "mixtral", "gemma3"}) {
    SCOPED_TRACE(name);
    const Checkpoint whole = nested(name, memory), high = without_low_codes(whole, memory);
    const MemoryPlan at_8 = plan_memory(whole, *backend, kContext, KvType::kF16).value();
    const MemoryPlan at_4 = plan_memory(high, *backend, kContext, KvType::kF16).value();
    EXPECT_EQ(at_4.token_low_bytes, 0u);
    EXPECT_NEAR(static_cast<double>(at_8.token_bytes - at_8.token_low_bytes), static_cast<double>(at_4.token_bytes),
                64.0 * static_cast<double>(whole.tensors().size()));  // low planes begin at multiples of 64
    EXPECT_LT(at_8.token_bytes, at_8.weight_bytes) << "one row of the embedding, or some of the experts";
  }
}

// Memory that is not read need not be there: on a disk, on another machine, or not fetched yet.
class LowPlanes : public testing::Test {
 protected:
  static constexpr int64_t kRows = 512, kCols = 288;
  LowPlanes() {
    const TypeInfo& type = info(Type::kI8);
    const auto row = static_cast<int64_t>(*row_bytes(type, kCols));
    std::vector<std::byte> rows(static_cast<size_t>(kRows * row));
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<float> values(kCols);
      for (int64_t i = 0; i < kCols; ++i)
        values[static_cast<size_t>(i)] = static_cast<float>((r * 31 + i * 17) % 23 - 11);
      type.encode(values.data(), rows.data() + r * row, kCols);
    }
    const auto page = static_cast<int64_t>(::sysconf(_SC_PAGESIZE));
    const int64_t n_panels = kRows / kPanelRows, low = type.panel.low_offset(n_panels, kCols);
    bytes_ = type.panel.matrix_bytes(n_panels, kCols);
    // The low planes begin a page.
    const int64_t before = (page - low % page) % page;
    size_ = static_cast<size_t>(before + bytes_);
    memory_ =
        static_cast<std::byte*>(::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(memory_, MAP_FAILED);
    std::byte* panels = memory_ + before;
    pack_panels(type, rows, kRows, kCols, 0, n_panels, panels);
    pack_panels(type, rows, kRows, kCols, 0, n_panels, panels + low, Plane::kLow);
    EXPECT_EQ(::mprotect(panels + low, static_cast<size_t>(bytes_ - low), PROT_NONE), 0);
    WeightSource source{.type = Type::kI8, .rows = kRows, .cols = kCols, .data = {}, .panels = true, .consumed = {}};
    source.data.emplace_back(panels, static_cast<size_t>(bytes_));
    weight_ = backend_->load(source).value();
    buffer_ = backend_->allocate(4 * (kCols * 16 + kRows * 16)).value();
  }
  ~LowPlanes() override { ::munmap(memory_, size_); }

  void use_all() {
    const std::array<int32_t, 16> ids{0, 1, 7, 8, 100, 511, 3, 5};
    const Rows in{buffer_.get(), 0, 16, kCols, kCols}, out{buffer_.get(), kCols * 16, 16, kRows, kRows};
    backend_->embed(*weight_, ids, 1.0f, in);
    for (const int n : {1, 5, 16}) {
      const LinearPart part{weight_.get(), nullptr, out.rows(0, n), false};
      backend_->linear({in.rows(0, n)}, {&part, 1});
    }
    std::array<int32_t, 1> column;
    std::array<float, 1> value;
    backend_->largest({in.rows(0, 1)}, *weight_, 1.0f, 0.0f, 1, column, value);
  }

  std::unique_ptr<Backend> backend_ = create_backend("cpu", {.n_threads = 1, .isa = ""}).value();
  std::byte* memory_ = nullptr;
  size_t size_ = 0;
  int64_t bytes_ = 0;
  std::unique_ptr<Weight> weight_;
  std::unique_ptr<Buffer> buffer_;
};

TEST_F(LowPlanes, AreNotTouchedAt4Bits) {
  weight_->read_low(false);
  use_all();
}
using LowPlanesDeathTest = LowPlanes;
TEST_F(LowPlanesDeathTest, AreReadAt8Bits) { EXPECT_DEATH(use_all(), ""); }

}  // namespace
}  // namespace hearth
