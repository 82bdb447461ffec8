// `hearth exits`, `hearth sparsity` and what answers do with them, as a user runs them.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "support/program.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace json = boost::json;
using test::ProgramResult;

class ExitsTest : public testing::Test {
 protected:
  ExitsTest() {
    std::ofstream text(text_);
    for (int i = 0; i < 16000; ++i) text << "THE CAT SAT ON A MAT "[i * 7 % 21] << (i % 5 == 0 ? " " : "");
  }
  ProgramResult hearth(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{HEARTH_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return test::run_program(all, {{"HEARTH_HOME", folder_.path().string()}});
  }
  [[nodiscard]] ProgramResult fit() const {
    return hearth({"exits", "fit", model_, "--text", text_, "--layers", "1,2", "--pieces", "16", "--json"});
  }
  // One answer; without its times.
  ProgramResult answer(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments{"run", model_, "THE CAT", "--raw", "--max-tokens", "40", "--temperature", "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return hearth(arguments);
  }
  TestFolder folder_;
  std::string text_ = (folder_.path() / "text.txt").string();
  std::string model_ = HEARTH_TEST_DATA "/families/smollm3/model.gguf";
};

TEST_F(ExitsTest, AFitIsMeasuredKeptAndGoesWithItsPack) {
  EXPECT_NE(answer({"--exit-kld", "0.05"}).err.find("hearth exits fit"), std::string::npos);
  const ProgramResult fitted = fit();
  ASSERT_EQ(fitted.exit_code, 0) << fitted.err;
  const auto report = json::parse(fitted.out).as_object();
  const auto& exits = report.at("exits").as_array();
  ASSERT_EQ(exits.size(), 2u);
  for (const auto& each : exits) EXPECT_GT(each.at("mean_kld").to_number<double>(), 0);
  EXPECT_GT(exits[0].at("saved").to_number<double>(), exits[1].at("saved").to_number<double>());
  const ProgramResult shown = hearth({"exits", "show", model_, "--json"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(json::parse(shown.out).at("bounds").as_array().size(), report.at("bounds").as_array().size());
  EXPECT_EQ(hearth({"cache", "clear"}).exit_code, 0);
  EXPECT_EQ(hearth({"exits", "show", model_}).exit_code, hearth({"show", "nothing"}).exit_code) << "they went with it";
}

TEST_F(ExitsTest, AnswersAreTheModelsOwnUnlessAskedAndWorthIt) {
  const ProgramResult plain = answer({});
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  ASSERT_EQ(fit().exit_code, 0);
  EXPECT_EQ(answer({}).out, plain.out);
  for (const char* guesses : {"auto", "3"})
    EXPECT_EQ(answer({"--draft", "self", "--speculate", guesses}).out, plain.out) << guesses;
  const ProgramResult tight = answer({"--exit-kld", "0.0001"});
  EXPECT_NE(tight.exit_code, 0);
  EXPECT_NE(tight.err.find("not useful for this model"), std::string::npos) << tight.err;
  EXPECT_NE(answer({"--draft", "self", "--kv-type", "i8"}).err.find("fitted for this model at precision 8 with f16"),
            std::string::npos);
}

TEST_F(ExitsTest, WrongUseIsSaid) {
  EXPECT_EQ(hearth({"exits", "fit", model_}).exit_code, 2);
  EXPECT_NE(hearth({"exits", "fit", model_, "--text", text_, "--layers", "9"}).err.find("--layers 9"),
            std::string::npos);
  std::ofstream(text_) << "THE";
  EXPECT_NE(fit().err.find("at least 12 are needed"), std::string::npos);
  EXPECT_EQ(answer({"--exit-kld", "0"}).exit_code, 2);
  EXPECT_NE(answer({"--experts", "1"}).err.find("no mixture"), std::string::npos);
}

TEST_F(ExitsTest, SparsityIsMeasured) {
  const ProgramResult measured =
      hearth({"sparsity", model_, "--text", text_, "--pieces", "2", "--shares", "0.1,0.9", "--json"});
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  const auto shares = json::parse(measured.out).at("shares").as_array();
  EXPECT_GT(shares[1].at("mean_kld").to_number<double>(), shares[0].at("mean_kld").to_number<double>());
}

}  // namespace
}  // namespace hearth
