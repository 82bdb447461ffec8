// Every family against an independent engine: tests/data/families holds tiny random models with reference logits
// (tests/reference/make_families.py says how they were made).
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <functional>
#include <numeric>

#include "backend/backend.h"
#include "model/arch/all.h"
#include "model/checkpoint.h"
#include "model/decoder.h"
#include "model/golden_models.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// Logits reach about 10. Against the same rounding of keys and values only the order of sums differs (and an element of
// them may round the other way); against float32 all through, the rounding shows.
constexpr float kErrorMax = 1e-3f, kErrorMaxOfExact = 2e-2f;

struct Row {
  size_t position;
  std::vector<float> logits;
};

struct Reference {
  std::vector<int32_t> tokens;
  std::vector<Row> exact, kv_f16;  // all in f32; with keys and values rounded to f16
};

std::vector<Row> rows_of(const json::value& list) {
  std::vector<Row> rows;
  for (const json::value& row : list.as_array())
    rows.push_back({row.at("position").to_number<size_t>(), json::value_to<std::vector<float>>(row.at("values"))});
  return rows;
}

std::vector<Reference> read_reference(const std::string& family) {
  std::vector<Reference> runs;
  const json::value reference = json::parse(golden_text(kGoldenFolder / family / "reference.json"));
  for (const json::value& each : reference.at("runs").as_array()) {
    runs.push_back({.tokens = json::value_to<std::vector<int32_t>>(each.at("tokens")),
                    .exact = rows_of(each.at("logits")),
                    .kv_f16 = rows_of(each.at("logits_kv_f16"))});
  }
  return runs;
}

// Logits of all positions, [position][n_vocab], with the tokens given `chunk` at a time. Before each chunk run the same
// number of rows of `other`, if any, in the same steps.
std::vector<float> logits_of(LoadedModel& model, std::span<const int32_t> tokens, size_t chunk,
                             std::span<const int32_t> other = {}) {
  Decoder& decoder = *model.decoder;
  const auto n_vocab = static_cast<size_t>(decoder.config().n_vocab);
  auto store = SequenceStore::create(*model.backend, decoder.config(),
                                     {.kv_type = KvType::kF16, .positions_max = 256, .sequences_max = 2});
  EXPECT_EQ(message(store), "");
  const SequenceId first = (*store)->open().value(), second = (*store)->open().value();
  std::vector<float> all(tokens.size() * n_vocab);
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t count = std::min(chunk, tokens.size() - begin);
    const size_t n_other = std::min(count, other.size() - std::min(begin, other.size()));
    std::vector<int32_t> step;
    std::vector<SequenceRows> rows;
    auto add = [&](SequenceId id, std::span<const int32_t> some) {
      if (some.empty()) return;
      EXPECT_EQ(message((*store)->reserve(id, static_cast<int>(some.size()))), "");
      rows.push_back((*store)->rows(id, static_cast<int>(step.size()), static_cast<int>(some.size())));
      step.insert(step.end(), some.begin(), some.end());
    };
    if (n_other > 0) add(second, other.subspan(begin, n_other));
    add(first, tokens.subspan(begin, count));
    decoder.run({.tokens = step, .sequences = rows}, **store);
    std::vector<int32_t> wanted(count);
    for (size_t i = 0; i < count; ++i) wanted[i] = static_cast<int32_t>(n_other + i);
    decoder.logits(wanted, std::span(all).subspan(begin * n_vocab, count * n_vocab));
    (*store)->advance(first, static_cast<int>(count));
    if (n_other > 0) (*store)->advance(second, static_cast<int>(n_other));
  }
  return all;
}

float worst_difference(std::span<const float> got, std::span<const Row> want) {
  float worst = 0;
  for (const Row& row : want) {
    const auto values = got.subspan(row.position * row.logits.size(), row.logits.size());
    for (size_t i = 0; i < values.size(); ++i) worst = std::max(worst, std::fabs(values[i] - row.logits[i]));
  }
  return worst;
}

// "llama", or "llama/model.gguf" for the other form of the same model.
std::vector<std::string> all_models() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldenFolder)) {
    names.push_back(entry.path().filename().string());
    if (fs::exists(entry.path() / "model.gguf")) names.push_back(names.back() + "/model.gguf");
  }
  std::ranges::sort(names);
  return names;
}

class FamilyTest : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static fs::path path() { return kGoldenFolder / GetParam(); }
  [[nodiscard]] static std::vector<Reference> reference() {
    return read_reference(GetParam().substr(0, GetParam().find('/')));
  }
};

// A family read or computed wrongly would answer nonsense, or subtly worse than it should.
TEST_P(FamilyTest, LogitsAreTheReferences) {
  for (const Reference& run : reference()) {
    auto model = load_golden(path(), "cpu", static_cast<int>(run.tokens.size()));
    ASSERT_EQ(message(model), "");
    const std::vector<float> got = logits_of(*model, run.tokens, run.tokens.size());
    EXPECT_LT(worst_difference(got, run.exact), kErrorMaxOfExact);
    EXPECT_LT(worst_difference(got, run.kv_f16), kErrorMax);
  }
}

// One answer: neither the instruction set, nor how a prompt is cut, nor what else is in the batch changes a bit.
TEST_P(FamilyTest, LogitsDoNotDependOnHowTheyAreComputed) {
  const Reference run = reference().back();
  const int context = static_cast<int>(run.tokens.size());
  auto model = load_golden(path(), "cpu", context, 2), scalar = load_golden(path(), "reference", context);
  ASSERT_EQ(message(model) + message(scalar), "");
  const std::vector<float> whole = logits_of(*model, run.tokens, run.tokens.size());
  EXPECT_EQ(whole, logits_of(*scalar, run.tokens, run.tokens.size())) << "scalar";
  EXPECT_EQ(whole, logits_of(*model, run.tokens, 1)) << "one by one";
  EXPECT_EQ(whole, logits_of(*scalar, run.tokens, 7)) << "scalar, chunks of 7";
  const std::vector<int32_t> other(run.tokens.rbegin(), run.tokens.rbegin() + 20);
  EXPECT_EQ(whole, logits_of(*model, run.tokens, 7, other)) << "chunks of 7 beside another sequence";
}

// The fused head: the tokens it names are those a scan of the logits finds, ties to the lower one, for any thread count.
TEST_P(FamilyTest, TheMostLikelyTokensAreThoseOfTheLogits) {
  for (const int n_threads : {1, 3}) {
    auto model = load_golden(path(), "cpu", 64, n_threads);
    ASSERT_EQ(message(model), "");
    Decoder& decoder = *model->decoder;
    const int n_vocab = decoder.config().n_vocab;
    const std::vector<int32_t> prompt = reference().back().tokens, wanted{0, 5, 2};
    (void)logits_of(*model, std::span(prompt).first(8), 8);
    std::vector<float> all(wanted.size() * static_cast<size_t>(n_vocab));
    decoder.logits(wanted, all);
    for (const int count : {1, 7, n_vocab}) {
      const auto n = static_cast<size_t>(count);
      std::vector<int32_t> tokens(wanted.size() * n);
      std::vector<float> logits(tokens.size());
      decoder.most_likely(wanted, count, tokens, logits);
      for (size_t row = 0; row < wanted.size(); ++row) {
        const auto of_row = std::span(all).subspan(row * static_cast<size_t>(n_vocab), static_cast<size_t>(n_vocab));
        std::vector<int32_t> order(of_row.size());
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(order, std::greater<>(), [&](int32_t id) { return of_row[static_cast<size_t>(id)]; });
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(tokens[row * n + i], order[i]) << count << " of row " << row << ", " << n_threads << " threads";
          ASSERT_EQ(logits[row * n + i], of_row[static_cast<size_t>(order[i])]);
        }
      }
    }
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::ranges::replace_if(name, [](char c) { return c == '-' || c == '/' || c == '.'; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(, FamilyTest, testing::ValuesIn(all_models()), test_name);

// Nothing is listed that no golden data covers.
TEST(FamiliesTest, EveryFamilyHasGoldenData) {
  for (const Family* family : all_families()) {
    const auto models = all_models();
    const bool covered = std::ranges::any_of(models, [&](const std::string& name) {
      auto checkpoint = open_checkpoint(kGoldenFolder / name);
      return checkpoint && find_family(*checkpoint).value_or(nullptr) == family;
    });
    EXPECT_TRUE(covered) << family->name;
  }
}

}  // namespace
}  // namespace hearth
