#include "model/sequence.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/process_memory.h"

namespace hearth {
namespace {

// One attention layer and one recurrent layer, small enough to count pages by hand.
DecoderConfig config() {
  DecoderConfig c;
  c.d_model = 8;
  c.conv_taps = 3;
  c.layers = {{.mixer = Mixer::kAttention, .n_heads = 2, .n_kv_heads = 2, .head_dim = 4}, {.mixer = Mixer::kShortConv}};
  return c;
}

class SequenceTest : public testing::TestWithParam<KvType> {
 protected:
  void SetUp() override {
    backend_ = create_backend("reference", {.n_threads = 1, .isa = {}}).value();
    store_ =
        SequenceStore::create(*backend_, config(), {.kv_type = GetParam(), .positions_max = 320, .sequences_max = 4})
            .value();
  }

  // Writes `count` positions whose keys and values are their position plus `mark`, and a recurrent state of the same.
  void append(SequenceId id, int count, float mark) {
    ASSERT_TRUE(store_->reserve(id, count));
    auto rows = backend_->allocate(int64_t{count} * 8 * 4).value();
    std::vector<float> values;
    for (int i = 0; i < count; ++i)
      for (int d = 0; d < 8; ++d) values.push_back(static_cast<float>(store_->length(id) + i) + mark);
    backend_->upload(*rows, 0, std::as_bytes(std::span(values)));
    const Rows k{rows.get(), 0, count, 8, 8};
    const SequenceRows sequence = store_->rows(id, 0, count);
    backend_->kv_write(store_->kv(0), k, k, k, {&sequence, 1}, {});
    const std::vector<float> state(16, static_cast<float>(store_->length(id) + count) + mark);
    backend_->upload(store_->states(), (sequence.state_slot * store_->state_stride() + store_->state_offset(1)) * 4,
                     std::as_bytes(std::span(state)));
    store_->advance(id, count);
  }
  float state(SequenceId id) {
    float value;
    backend_->download(store_->states(),
                       (store_->rows(id, 0, 1).state_slot * store_->state_stride() + store_->state_offset(1)) * 4,
                       std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  // The sequence's content as attention reads it: the mean value when every key is equally likely.
  float attend(SequenceId id) {
    auto memory = backend_->allocate(64 * 4).value();
    const Rows q{memory.get(), 0, 1, 8, 8}, out{memory.get(), 16, 1, 8, 8};
    SequenceRows rows = store_->rows(id, 0, 1);
    rows.position -= 1;
    backend_->attention(store_->kv(0), q, {&rows, 1}, {}, out);
    float value;
    backend_->download(*memory, 16 * 4, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<SequenceStore> store_;
};

TEST_P(SequenceTest, ForkSharesFullPagesAndCopiesWhatIsWrittenAfter) {
  const SequenceId a = store_->open().value();
  append(a, 40, 0.0f);
  const int free = store_->free_pages();
  const SequenceId b = store_->fork(a).value();
  EXPECT_EQ(store_->free_pages(), free) << "a fork takes no page";
  append(b, 1, 100.0f);
  EXPECT_EQ(store_->free_pages(), free - 1) << "the page both write into is copied, the full one is not";
  EXPECT_NEAR(attend(a), 19.5f, 0.2f) << "what the fork wrote does not show in the first";
  EXPECT_NEAR(attend(b), (19.5f * 40 + 140) / 41, 0.4f);
  EXPECT_EQ(state(a), 40.0f);
  EXPECT_EQ(state(b), 141.0f);
  store_->release(a);
  EXPECT_NEAR(attend(b), (19.5f * 40 + 140) / 41, 0.4f) << "shared pages outlive the sequence they came from";
  store_->release(b);
  EXPECT_EQ(store_->free_pages(), 14);
}

TEST_P(SequenceTest, TruncateGoesBackToACheckpointOfTheRecurrentState) {
  const SequenceId a = store_->open().value();
  append(a, 64, 0.0f);
  append(a, 36, 0.0f);
  EXPECT_EQ(store_->truncate(a, 90), 64) << "the state is known at 64, so the caller runs 64 to 90 again";
  EXPECT_EQ(state(a), 64.0f);
  EXPECT_EQ(store_->length(a), 64);
  EXPECT_EQ(store_->truncate(a, 10), 0);
  EXPECT_EQ(state(a), 0.0f);
  append(a, 5, 0.0f);
  EXPECT_NEAR(attend(a), 2.0f, 0.05f);
}

TEST_P(SequenceTest, ExportAndImportGiveTheSameState) {
  const SequenceId a = store_->open().value();
  append(a, 70, 1.0f);
  const auto bytes = store_->export_state(a, 0, 2).value();
  const SequenceId b = store_->import_state(bytes).value();
  EXPECT_EQ(store_->length(b), 70);
  EXPECT_EQ(attend(b), attend(a));
  EXPECT_EQ(state(b), state(a));
  // Layer by layer, as stages on several machines would send it.
  const SequenceId c = store_->import_state(store_->export_state(a, 0, 1).value()).value();
  EXPECT_EQ(store_->import_state(store_->export_state(a, 1, 2).value(), c).value(), c);
  EXPECT_EQ(attend(c), attend(a));
  EXPECT_EQ(state(c), state(a));
}

TEST_P(SequenceTest, DamagedStateIsRefusedAndNothingLeaks) {
  const SequenceId a = store_->open().value();
  append(a, 33, 0.0f);
  const auto bytes = store_->export_state(a, 0, 2).value();
  const int free = store_->free_pages();
  for (size_t n = 0; n < bytes.size(); n += 7) EXPECT_FALSE(store_->import_state(std::span(bytes).first(n))) << n;
  for (size_t at = 0; at < 24; ++at) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0xff};
    EXPECT_FALSE(store_->import_state(damaged)) << at;
  }
  EXPECT_EQ(store_->free_pages(), free);
  EXPECT_FALSE(store_->export_state(a, 1, 3));
}

TEST_P(SequenceTest, FullCacheAndTooManySequencesAreErrorsWithNumbers) {
  const SequenceId a = store_->open().value();
  const auto error = store_->reserve(a, 1000);
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code, Code::kLimit);
  EXPECT_NE(error.error().message.find("1000"), std::string::npos);
  EXPECT_EQ(store_->free_pages(), 14) << "nothing is taken when not all fits";
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->open());
  EXPECT_EQ(store_->open().error().code, Code::kBusy);
}

TEST(SequencePages, WhatIsOverALimitIsNotTakenAndItsMemoryGoesBack) {
  DecoderConfig large = config();
  large.layers.front() = {.mixer = Mixer::kAttention, .n_heads = 16, .n_kv_heads = 16, .head_dim = 128};
  const auto backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  const auto store =
      SequenceStore::create(*backend, large, {.positions_max = 128 * kKvPagePositions, .sequences_max = 2}).value();
  const SequenceId a = store->open_for_import(128 * kKvPagePositions).value();
  const StateBytes state = store->bytes(a);
  ASSERT_TRUE(state.write(24, std::vector<std::byte>(state.size() - 24, std::byte{1})));
  const uint64_t before = resident_bytes();
  store->release(a);
  store->limit_pages(4);
  EXPECT_LT(resident_bytes() + 25'000'000, before);
  EXPECT_EQ(store->free_pages(), 4);
  EXPECT_FALSE(store->open_for_import(5 * kKvPagePositions));
  EXPECT_TRUE(store->open_for_import(4 * kKvPagePositions));
  store->limit_pages(1 << 20);
  EXPECT_TRUE(store->open_for_import(100 * kKvPagePositions));
}

INSTANTIATE_TEST_SUITE_P(KvTypes, SequenceTest, testing::ValuesIn(kAllKvTypes),
                         [](const auto& each) { return std::string(name(each.param)); });

}  // namespace
}  // namespace hearth
