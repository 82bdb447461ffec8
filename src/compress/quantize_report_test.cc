#include "compress/quantize_report.h"

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <limits>
#include <string>

#include "base/json.h"

namespace hearth::compress {
namespace {

QuantizeReport small_report() {
  QuantizeReport report;
  report.command = "hearth quantize in.gguf out.pack --type mixed";
  report.version = "1.2.3";
  report.source = {.path = "in.gguf", .format = "GGUF", .bytes = 4000, .quality = Quality{.perplexity = 20.0}};
  report.output = {.path = "out.pack",
                   .format = "pack",
                   .bytes = 600,
                   .quality = Quality{.perplexity = 21.0, .mean_kld = 0.02, .kld_p999 = 0.4, .same_top = 0.9}};
  report.tensors = {
      {.name = "token_embd.weight", .kind = "token_embd", .shape = {64, 10}, .from = "F32", .type = "i8", .bytes = 680},
      {.name = "blk.0.ffn_up.weight",
       .layer = 0,
       .kind = "ffn_up",
       .shape = {32, 10},
       .from = "F32",
       .type = "i4",
       .bytes = 170,
       .output_error = 0.003}};
  report.trade = {{.kind = TradePoint::Kind::kResult, .label = "mixed", .bytes = 600, .mean_kld = 0.02}};
  report.calibration = ReportedText{.path = "book.txt", .sha256 = "ab12", .tokens = 32768};
  report.seed = 18446744073709551615U;
  return report;
}

// The JSON inside the page, as a browser reads it: up to the end of its script element.
std::string data_of(const std::string& page) {
  const std::string begin = "id=\"data\">";
  const size_t at = page.find(begin) + begin.size();
  return page.substr(at, page.find("</script", at) - at);
}

TEST(QuantizeReport, StatesTrueBitsPerWeightPerTensorAndInTotal) {
  const auto out = to_json(small_report()).as_object();
  EXPECT_EQ(out.at("bits_per_weight"), 8.0 * (680 + 170) / (640 + 320));
  const auto& tensors = out.at("tensors").as_array();
  EXPECT_EQ(tensors.at(0).at("bits_per_weight"), 8.5);
  EXPECT_EQ(tensors.at(0).at("layer"), nullptr);
  EXPECT_EQ(tensors.at(1).at("bits_per_weight"), 4.25);
  EXPECT_EQ(tensors.at(1).at("layer"), 0);
  EXPECT_EQ(out.at("seed"), 18446744073709551615U);
  EXPECT_EQ(out.at("judge"), nullptr);
  EXPECT_EQ(out.at("calibration").at("sha256"), "ab12");
  EXPECT_EQ(out.at("trade").at(0).at("kind"), "result");
}

// A model that broke has an infinite perplexity; programs must still be able to read its report.
TEST(QuantizeReport, FiguresThatAreNoNumbersAreNull) {
  QuantizeReport report = small_report();
  report.output.quality->perplexity = std::numeric_limits<double>::infinity();
  report.output.quality->mean_kld = std::numeric_limits<double>::quiet_NaN();
  report.tensors[1].output_error = std::numeric_limits<double>::infinity();
  report.tensors[0].shape = {0};
  const auto read = parse_json(boost::json::serialize(to_json(report)));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->at("output").at("quality").at("perplexity"), nullptr);
  EXPECT_EQ(read->at("output").at("quality").at("mean_kld"), nullptr);
  EXPECT_EQ(read->at("tensors").at(0).at("bits_per_weight"), nullptr);
  EXPECT_EQ(read->at("tensors").at(1).at("output_error"), nullptr);
}

TEST(QuantizeReport, NoNameBreaksOutOfThePage) {
  QuantizeReport report = small_report();
  report.tensors[0].name = "</script><script>alert(1)</script><!-- @@report.js@@";
  report.output.path = "<img src=x onerror=alert(1)>";
  const std::string page = to_html(report);
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  const auto read = parse_json(data_of(page));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, to_json(report));
}

TEST(QuantizeReport, ThePageIsWholeAndNeedsNothingElse) {
  const std::string page = to_html(small_report());
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  EXPECT_EQ(page.find("@@"), std::string::npos) << "a part was not put in";
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos) << "the theme is missing";
  for (const char* from_elsewhere : {" src=", " href=", "@import", "url(", "https:"})
    EXPECT_EQ(page.find(from_elsewhere), std::string::npos) << from_elsewhere;
}

}  // namespace
}  // namespace hearth::compress
