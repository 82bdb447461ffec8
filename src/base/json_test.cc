#include "base/json.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth {
namespace {

TEST(Json, ParsesValues) {
  const auto value = parse_json(R"( {"a": [1, -2, 3.5, "x\u00e9", true, null]} )");
  ASSERT_TRUE(value.has_value()) << value.error().message;
  const auto& array = value->as_object().at("a").as_array();
  EXPECT_EQ(array[1].as_int64(), -2);
  EXPECT_EQ(array[3].as_string(), "x\xc3\xa9");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const std::string text : {"", " ", "{", "[1,]", "{\"a\":1} x", "nul", "\"\xff\"", "01", "{'a':1}", "[1] [2]"}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value.has_value()) << text;
    EXPECT_EQ(value.error().code, Code::kMalformed) << text;
  }
}

// Issue 27434 of llama.cpp and 5387 of nlohmann/json: deep nesting ended the process.
TEST(Json, H3_DeepNestingIsALimit) {
  for (const size_t depth : {65u, 3000u, 1'000'000u}) {
    const auto value = parse_json(std::string(depth, '['));
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().code, Code::kLimit) << value.error().message;
  }
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']')).has_value());
}

TEST(Json, LongTextIsALimit) {
  const auto value = parse_json("[1, 2, 3]", {.depth = 4, .bytes = 8});
  ASSERT_FALSE(value.has_value());
  EXPECT_EQ(value.error().code, Code::kLimit);
}

// Found by fuzzing: such a number came out of a template as NaN, which is no JSON.
TEST(ParseJson, NumbersThatNoDoubleHoldsAreRefused) {
  for (const std::string_view text : {"[1, 1e999]", "[-0e80615]", "{\"a\": {\"b\": -2e400}}"}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value) << text;
    EXPECT_EQ(value.error().code, Code::kMalformed);
  }
  EXPECT_TRUE(parse_json("[1e308, -5e-640, 0.0]"));
}

}  // namespace
}  // namespace hearth
