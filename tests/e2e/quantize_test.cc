// `hearth quantize` as a user runs it, on tiny models of several families.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

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

// A mix: as small as asked for, better than the smallest, and what it was chosen from is in the report.
TEST_F(QuantizeTest, AMixHasAtMostTheBytesOfItsTarget) {
  for (const std::string format : {"pack", "gguf"}) {
    const auto out = [&](const std::string& name) { return (folder_.path() / (name + "." + format)).string(); };
    const auto bytes_with = [&](const std::string& type) {
      const ProgramResult made = quantize(model("llama"), out(type), {"--type", type, "--head-type", type});
      EXPECT_EQ(made.exit_code, 0) << made.err;
      return std::filesystem::file_size(out(type));
    };
    const uint64_t small = bytes_with(format == "pack" ? "i4" : "iq4_nl"),
                   large = bytes_with(format == "pack" ? "i8" : "q8_0");
    const uint64_t target = (small + large) / 2;
    const ProgramResult made =
        quantize(model("llama"), out("mixed"), {"--target-bytes", std::to_string(target), "--json"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    EXPECT_LE(std::filesystem::file_size(out("mixed")), target);
    const auto report = json::parse(made.out);
    EXPECT_EQ(report.at("target_bytes").to_number<uint64_t>(), target);
    std::set<std::string> types;
    for (const auto& tensor : report.at("tensors").as_array())
      if (!tensor.at("measured").as_array().empty()) types.emplace(tensor.at("type").as_string());
    EXPECT_GT(types.size(), 1U);
    EXPECT_EQ(hearth({"run", out("mixed"), "the a", "--raw", "-n", "4"}).exit_code, 0);
  }
}

TEST_F(QuantizeTest, ATargetOfDivergenceIsReached) {
  const std::string out = (folder_.path() / "x.pack").string();
  const std::string report = (folder_.path() / "report.json").string();
  const ProgramResult plan = quantize(model("llama"), out, {"--target-kld", "0.01", "--dry-run", "--report", report});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_NE(plan.out.find("expected KLD"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out));
  // What was measured serves for other targets of the same model, and for no other model.
  const ProgramResult again =
      quantize(model("llama"), out, {"--target-kld", "0.01", "--dry-run", "--measured", report});
  EXPECT_EQ(again.out, plan.out);
  EXPECT_EQ(again.err.find("measuring"), std::string::npos) << again.err;
  const ProgramResult other = quantize(model("phi3"), out, {"--target-kld", "0.01", "--dry-run", "--measured", report});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.err.find("report of another model"), std::string::npos) << other.err;
  const ProgramResult made = quantize(model("llama"), out, {"--target-kld", "0.01", "--json"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_LE(json::parse(made.out).at("output").at("quality").at("mean_kld").to_number<double>(), 0.01);
}

TEST_F(QuantizeTest, ATargetThatCannotBeReachedSaysWhatCan) {
  const std::string out = (folder_.path() / "x.pack").string();
  const ProgramResult small = quantize(model("llama"), out, {"--target-bytes", "1000"});
  EXPECT_EQ(small.exit_code, 2) << small.err;
  EXPECT_NE(small.err.find("the smallest mix has"), std::string::npos) << small.err;
  const ProgramResult text = hearth({"quantize", model("llama"), out, "--target-bytes", "90MB"});
  EXPECT_EQ(text.exit_code, 2);
  EXPECT_NE(text.err.find("--calibrate"), std::string::npos) << text.err;
  const ProgramResult both = quantize(model("llama"), out, {"--type", "i4", "--target-kld", "0.1"});
  EXPECT_NE(both.err.find("--type mixed"), std::string::npos) << both.err;
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(QuantizeTest, SingleTensorsGetTheTypesThatAreWanted) {
  const std::string out = (folder_.path() / "x.pack").string();
  const ProgramResult made = quantize(
      model("llama"), out,
      {"--type", "i4", "--tensor-type", "ffn_down=i6", "--tensor-type", "blk.1.ffn_down=q8_0", "--dry-run", "--json"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto report = json::parse(made.out);
  std::map<std::string, std::string> types;
  for (const auto& tensor : report.at("tensors").as_array())
    types[std::string(tensor.at("name").as_string())] = std::string(tensor.at("type").as_string());
  EXPECT_EQ(types["blk.0.ffn_down.weight"], "I6");
  EXPECT_EQ(types["blk.1.ffn_down.weight"], "Q8_0");
  EXPECT_EQ(types["blk.1.ffn_up.weight"], "I4");
  const ProgramResult wrong = quantize(model("llama"), out, {"--tensor-type", "ffn_down"});
  EXPECT_NE(wrong.err.find("NAME=TYPE"), std::string::npos) << wrong.err;
}

}  // namespace
}  // namespace hearth
