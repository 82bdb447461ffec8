// `hearth quantize` as a user runs it, on tiny models of several families.
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

class QuantizeTest : public testing::Test {
 protected:
  QuantizeTest() {
    std::ofstream text(text_);
    for (int i = 0; i < 4000; ++i) text << "the a sea whale ship "[i * 7 % 19] << (i % 5 == 0 ? " " : "");
  }
  static std::string model(const std::string& family) { return HEARTH_TEST_DATA "/families/" + family + "/model.gguf"; }
  ProgramResult quantize(const std::string& in, const std::string& out, std::vector<std::string> more) const {
    std::vector<std::string> arguments{"quantize",       in, out, "--calibrate", text_, "--chunks", "3",
                                       "--judge-chunks", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return hearth(arguments);
  }
  ProgramResult hearth(const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{HEARTH_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return test::run_program(all, {{"HEARTH_HOME", folder_.path().string()}});
  }
  TestFolder folder_;
  std::string text_ = (folder_.path() / "text.txt").string();
};

// Every kind of layer: attention, mixtures, short convolutions, norms after the sums, fused matrices.
TEST_F(QuantizeTest, FamiliesBecomePacksThatAreNearTheirSource) {
  // Two of the tiny models have rows of 48, which the type cannot hold.
  for (const auto& [family, keep] : {std::pair<std::string, std::string>{"llama", ""},
                                     {"gemma3", "attn_output"},
                                     {"qwen3-moe", "down_exps"},
                                     {"lfm2", ""},
                                     {"phi3", ""}}) {
    const std::string out = (folder_.path() / (family + ".pack")).string();
    std::vector<std::string> more{"--type", "i6", "--json"};
    if (!keep.empty()) more.insert(more.end(), {"--keep", keep});
    const ProgramResult made = quantize(model(family), out, more);
    ASSERT_EQ(made.exit_code, 0) << family << ": " << made.err;
    const auto report = json::parse(made.out);
    EXPECT_LT(report.at("output").at("quality").at("mean_kld").to_number<double>(), 0.05) << family;
    const ProgramResult verified = hearth({"verify", out, "--json"});
    EXPECT_EQ(verified.exit_code, 0) << verified.err;
  }
}

TEST_F(QuantizeTest, OneSeedGivesOneFileWhateverTheThreads) {
  const std::string a = (folder_.path() / "a.gguf").string(), b = (folder_.path() / "b.gguf").string();
  ASSERT_EQ(quantize(model("llama"), a, {"--type", "q4_0", "--threads", "1"}).exit_code, 0);
  ASSERT_EQ(quantize(model("llama"), b, {"--type", "q4_0", "--threads", "3"}).exit_code, 0);
  EXPECT_EQ(test::read_whole(a), test::read_whole(b));
  // It is a model like others.
  const ProgramResult shown = hearth({"inspect", a});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_NE(shown.out.find("Q4_0"), std::string::npos) << shown.out;
}

TEST_F(QuantizeTest, NothingIsReplacedSilently) {
  const std::string out = (folder_.path() / "x.gguf").string();
  const ProgramResult rows = quantize(model("llama"), out, {"--type", "q4_k"});
  EXPECT_EQ(rows.exit_code, 2) << rows.err;
  EXPECT_NE(rows.err.find("blk.0."), std::string::npos) << rows.err;
  EXPECT_NE(rows.err.find("multiple of 256"), std::string::npos) << rows.err;
  const ProgramResult own = quantize(model("llama"), out, {"--type", "i4"});
  EXPECT_NE(own.err.find("--format pack"), std::string::npos) << own.err;
  const ProgramResult type = quantize(model("llama"), out, {"--type", "q9"});
  EXPECT_NE(type.err.find("IQ4_NL"), std::string::npos) << type.err;
  const ProgramResult itself = quantize(model("llama"), model("llama"), {"--type", "q8_0"});
  EXPECT_NE(itself.exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(QuantizeTest, ADryRunWritesNothingAndTellsThePlan) {
  const std::string out = (folder_.path() / "x.pack").string();
  const ProgramResult plan = quantize(model("llama"), out, {"--type", "i8", "--dry-run", "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  const auto report = json::parse(plan.out);
  EXPECT_TRUE(report.at("dry_run").as_bool());
  // With 8 bits the head is of the same type, so that all of the model can be read at 4.
  for (const auto& tensor : report.at("tensors").as_array())
    EXPECT_EQ(tensor.at("type").as_string(), tensor.at("shape").as_array().size() == 2 ? "I8" : "F32") << tensor;
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(QuantizeTest, TheReportIsAPageThatNeedsNothingElse) {
  const std::string out = (folder_.path() / "x.pack").string(), page = (folder_.path() / "x.html").string();
  ASSERT_EQ(quantize(model("llama"), out, {"--type", "i5", "--report", page}).exit_code, 0);
  const std::string html = test::read_whole(page);
  EXPECT_NE(html.find("blk.0.ffn_down"), std::string::npos);
  EXPECT_EQ(html.find("src=\"http"), std::string::npos);
}

}  // namespace
}  // namespace hearth
