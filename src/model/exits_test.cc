// Rows that leave early: each position's result stays a function of the tokens up to it, whatever runs beside it.
#include "model/exits.h"

#include <gtest/gtest.h>

#include <random>

#include "model/gguf_writer.h"
#include "model/golden_models.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

constexpr int kPositions = 64, kRows = 40;

ExitFile random_exits(const Decoder& decoder, std::initializer_list<int> layers) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  const auto d = static_cast<size_t>(decoder.config().d_model);
  const auto some = [&](size_t n, float size) {
    std::vector<float> values(n);
    for (float& value : values) value = size * normal(random);
    return values;
  };
  ExitFile file{.model = {}, .precision = decoder.precision(), .kv_type = "f16", .maps = {}, .bounds = {}};
  for (const int each : layers)
    file.maps.push_back({.layers = each, .change = some(d * d, 0.1f), .bias = some(d, 0.1f), .doubt = some(d + 1, 1)});
  return file;
}

// What rows of some sequences give, and which of them left.
struct Given {
  std::vector<std::vector<float>> logits;
  std::vector<bool> left;
};

class Sequences {
 public:
  Sequences(LoadedModel& model, KvType kv_type, std::vector<ExitPolicy> policies)
      : decoder_(*model.decoder), policies_(std::move(policies)) {
    const int n = static_cast<int>(policies_.size());
    store_ = SequenceStore::create(*model.backend, decoder_.config(),
                                   {.kv_type = kv_type, .positions_max = n * kPositions, .sequences_max = n})
                 .value();
    for (int i = 0; i < n; ++i) ids_.push_back(store_->open().value());
    given_.resize(policies_.size());
  }

  // The next `count` tokens of each of these sequences in one step.
  void step(std::span<const size_t> which, int count) {
    std::vector<int32_t> tokens, wanted;
    std::vector<SequenceRows> rows;
    std::vector<ExitPolicy> exits;
    for (const size_t each : which) {
      ASSERT_TRUE(store_->reserve(ids_[each], count));
      rows.push_back(store_->rows(ids_[each], static_cast<int>(tokens.size()), count));
      exits.push_back(policies_[each]);
      for (int i = 0; i < count; ++i)
        tokens.push_back((5 + 7 * (store_->length(ids_[each]) + i) + 3 * static_cast<int>(each)) % 60);
    }
    for (int i = 0; i < static_cast<int>(tokens.size()); ++i) wanted.push_back(i);
    Batch batch{.tokens = tokens, .sequences = rows};
    batch.exits = exits;
    decoder_.run(batch, *store_);
    const auto n_vocab = static_cast<size_t>(decoder_.config().n_vocab);
    std::vector<float> logits(wanted.size() * n_vocab), best(wanted.size());
    std::vector<int32_t> likeliest(wanted.size());
    decoder_.logits(wanted, logits);
    decoder_.most_likely(wanted, 1, likeliest, best);
    for (size_t row = 0; row < wanted.size(); ++row) {
      Given& given = given_[which[row / static_cast<size_t>(count)]];
      given.logits.emplace_back(logits.begin() + static_cast<ptrdiff_t>(row * n_vocab),
                                logits.begin() + static_cast<ptrdiff_t>((row + 1) * n_vocab));
      given.left.push_back(decoder_.left_early(static_cast<int>(row)));
      EXPECT_EQ(best[row], given.logits.back()[static_cast<size_t>(likeliest[row])]);
    }
    for (const size_t each : which) store_->advance(ids_[each], count);
  }
  [[nodiscard]] const Given& given(size_t i) const { return given_[i]; }

 private:
  Decoder& decoder_;
  std::vector<ExitPolicy> policies_;
  std::unique_ptr<SequenceStore> store_;
  std::vector<SequenceId> ids_;
  std::vector<Given> given_;
};

class Exits : public testing::TestWithParam<std::string> {};

TEST_P(Exits, WhoLeavesDoesNotDependOnWhatRunsBesideIt) {
  LoadedModel model = load_golden(kGoldenFolder / GetParam(), "cpu", kPositions, 2).value();
  const auto heads = ExitHeads::create(random_exits(*model.decoder, {1, 2}), *model.decoder, *model.backend).value();
  model.decoder->use_exits(heads.get());
  const std::vector<ExitPolicy> policies{{1, 0.0f}, {}, {2, 0.0f}, {1, 1.0f}, {2, 1e9f}};
  const std::vector<size_t> all{0, 1, 2, 3, 4};
  for (const KvType kv_type : {KvType::kF16, KvType::kI8}) {
    Sequences alone(model, kv_type, policies), together(model, kv_type, policies);
    for (const size_t each : all)
      for (int i = 0; i < kRows; ++i) alone.step({&each, 1}, 1);
    for (const int count : {1, 7, 3, 12, 12, 5}) together.step(all, count);
    for (const size_t each : all) {
      const Given &a = alone.given(each), &b = together.given(each);
      EXPECT_EQ(a.left, b.left) << "sequence " << each;
      EXPECT_EQ(a.logits, b.logits) << "sequence " << each;
      const auto left = std::ranges::count(a.left, true);
      if (each == 1) {
        EXPECT_EQ(left, 0);
      }
      if (each == 4) {
        EXPECT_EQ(left, kRows);
      }
      if (each == 0) {
        EXPECT_GT(left, 2) << "the test is of rows that leave and rows that do not";
        EXPECT_LT(left, kRows - 2);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Exits, testing::Values("smollm3", "gemma3"),
                         [](const auto& family) { return family.param; });

// Layers that add nothing can be left out without a trace.
TEST(ExitsTest, BehindLayersThatAddNothingTheAnswerIsTheSame) {
  std::vector<std::vector<std::byte>> memory;
  const Checkpoint original = open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value();
  const Checkpoint idle = with_idle_layers(original, 2, memory);
  LoadedModel model;
  model.backend = create_backend("cpu", {.n_threads = 1, .isa = {}}).value();
  model.decoder = Decoder::load(idle, *model.backend, {.context = kPositions, .rows_max = 0, .progress = {}}).value();
  ExitFile file = random_exits(*model.decoder, {2});
  for (float& value : file.maps[0].change) value = 0;
  for (float& value : file.maps[0].bias) value = 0;
  const auto heads = ExitHeads::create(file, *model.decoder, *model.backend).value();
  model.decoder->use_exits(heads.get());
  Sequences sequences(model, KvType::kF16, {{}, {2, 1e9f}, {2, 0.0f}});
  const std::vector<size_t> all{0, 1, 2};
  // One text for all three: the tokens are those of the first.
  for (const size_t each : all) sequences.step({&each, 1}, 1);
  EXPECT_EQ(sequences.given(1).left, std::vector<bool>{true});
  Sequences whole(model, KvType::kF16, {{}}), left(model, KvType::kF16, {{2, 1e9f}}),
      some(model, KvType::kF16, {{2, 0.0f}});
  const size_t first = 0;
  for (Sequences* each : {&whole, &left, &some}) each->step({&first, 1}, kRows);
  EXPECT_EQ(whole.given(0).logits, left.given(0).logits);
  EXPECT_EQ(whole.given(0).logits, some.given(0).logits);
}

class ExitFiles : public testing::Test {
 protected:
  ExitFiles() {
    const Checkpoint original = open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value();
    EXPECT_TRUE(write_pack(original, folder_.path() / "a.pack", 1));
    model_ = load_golden(folder_.path() / "a.pack", "cpu", kPositions).value();
    file_ = random_exits(*model_.decoder, {1, 3});
    file_.model = exits_bound_to(model_.checkpoint).value();
    file_.bounds = {
        {.bound = 0.05,
         .layers = 3,
         .threshold = -1.5f,
         .mean_kld = 0.04,
         .same_top = 0.9,
         .exited = 0.5,
         .saved = 0.12},
        {.bound = 0.1, .layers = 1, .threshold = 2, .mean_kld = 0.12, .same_top = 0.8, .exited = 0.5, .saved = 0.3}};
  }
  [[nodiscard]] Result<ExitFile> read(KvType kv_type = KvType::kF16) const {
    return read_exits(path_, model_.checkpoint, *model_.decoder, kv_type);
  }
  [[nodiscard]] Result<void> write() const { return write_exits(file_, model_.decoder->config().d_model, path_); }

  TestFolder folder_;
  const std::filesystem::path path_ = folder_.path() / "a.exits";
  LoadedModel model_;
  ExitFile file_;
};

TEST_F(ExitFiles, WhatWasFittedIsThereAgain) {
  EXPECT_EQ(read().error().code, Code::kNotFound);
  ASSERT_TRUE(write());
  const ExitFile back = read().value();
  ASSERT_EQ(back.maps.size(), 2u);
  EXPECT_EQ(back.maps[1].layers, 3);
  EXPECT_EQ(back.maps[1].doubt, file_.maps[1].doubt);
  EXPECT_EQ(back.bounds[0].threshold, -1.5f);
  EXPECT_EQ(back.choose(0.05).value().layers, 3);
  EXPECT_TRUE(ExitHeads::create(back, *model_.decoder, *model_.backend));
}

TEST_F(ExitFiles, TheBoundThatIsAskedForIsKeptOrRefused) {
  EXPECT_EQ(file_.choose(0.05).value().layers, 3);
  EXPECT_EQ(file_.choose(0.2).value().layers, 1) << "what was measured counts, not what was aimed at";
  EXPECT_EQ(file_.choose(0.11).value().layers, 3) << "0.12 was measured";
  const Error tight = file_.choose(0.03).error();
  EXPECT_EQ(tight.code, Code::kUnsupported);
  EXPECT_NE(tight.message.find("not useful for this model"), std::string::npos) << tight.message;
  file_.bounds[0].saved = 0.09;
  EXPECT_NE(file_.choose(0.05).error().message.find("9.0 %"), std::string::npos);
}

TEST_F(ExitFiles, ThoseOfAnotherModelOrKvTypeAreRefused) {
  ASSERT_TRUE(write());
  EXPECT_EQ(read(KvType::kI8).error().code, Code::kUnsupported);
  file_.model[0] = file_.model[0] == '0' ? '1' : '0';
  ASSERT_TRUE(write());
  EXPECT_NE(message(read()).find("another model"), std::string::npos);
  EXPECT_EQ(exits_bound_to(open_checkpoint(kGoldenFolder / "smollm3/model.gguf").value()).error().code,
            Code::kUnsupported);
}

TEST_F(ExitFiles, DamagedOnesAreRefused) {
  file_.maps[1].layers = 4;  // the model has four
  file_.bounds[0].layers = 4;
  ASSERT_TRUE(write());
  EXPECT_NE(message(read()).find("after 4 of 4 layers"), std::string::npos) << message(read());
  file_.maps[1].layers = 3;
  ASSERT_TRUE(write());
  EXPECT_NE(message(read()).find("which is not there"), std::string::npos) << message(read());
  file_.bounds[0].layers = 3;
  file_.maps[0].bias[3] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE(write());
  EXPECT_NE(message(read()).find("no number"), std::string::npos) << message(read());
  file_.maps[0].bias[3] = 0;
  file_.bounds[1].mean_kld = std::numeric_limits<double>::quiet_NaN();
  ASSERT_TRUE(write());
  EXPECT_NE(message(read()).find("bound 1 of 2 is no number"), std::string::npos) << message(read());
  GgufWriter writer;
  writer.set("general.type", "adapter");
  ASSERT_TRUE(writer.write(path_));
  EXPECT_NE(message(read()).find("no exit heads"), std::string::npos) << message(read());
}

}  // namespace
}  // namespace hearth
