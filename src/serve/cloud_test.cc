// What goes to a cloud, what is taken from it, and what it may cost.
#include "serve/cloud.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/json.h"
#include "support/test_folder.h"

namespace hearth::serve {
namespace {

TEST(CloudTest, OnlyWhatMakesTheAnswerGoesOut) {
  const auto body =
      parse_json(R"({"model":"here","messages":[],"policy":"any","data_class":"x","stream":true,"user":"u",
                                   "deadline_ms":5,"metadata":{"a":1},"temperature":0.5,"cache_prompt":true})");
  EXPECT_EQ(cloud_request(body->get_object(), "there"),
            (boost::json::object{
                {"model", "there"}, {"stream", false}, {"messages", boost::json::array()}, {"temperature", 0.5}}));
}

TEST(CloudTest, AReplyIsAnAnswerOrNothing) {
  const auto answer = parse_cloud_reply(
      R"({"choices":[{"message":{"content":"Hi","tool_calls":[{"id":"call_7","function":{"name":"f","arguments":"{\"a\":1}"}}]},
          "finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3,"completion_tokens":4},"more":[1]})",
      1);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->choices[0].text, "Hi");
  EXPECT_EQ(answer->choices[0].calls.at(0).id, "7");
  EXPECT_EQ(answer->usage.completion_tokens, 4);
  const char* garbage[] = {
      "",
      "null",
      "<html>",
      "{}",
      R"({"choices":[]})",
      R"({"choices":{}})",
      R"({"error":{"message":"no"}})",
      R"({"choices":[{"message":{"content":"a"}}]})",
      R"({"choices":[{"message":{"content":7},"finish_reason":"stop"}]})",
      R"({"choices":[{"message":{"content":""},"finish_reason":"stop"}]})",
      R"({"choices":[{"message":{"content":"a"},"finish_reason":"stop"},{"message":{"content":"a"},"finish_reason":"stop"}]})",
      R"({"choices":[{"message":{"content":"a"},"finish_reason":"content_filter"}]})",
      R"({"choices":[{"message":{"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{"}}]},"finish_reason":"tool_calls"}]})",
      R"({"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"completion_tokens":-4}})",
      R"({"choices":[{"message":{"content":"a"},"finish_reason":"stop")"};
  for (const char* text : garbage) EXPECT_FALSE(parse_cloud_reply(text, 1)) << text;
}

TEST(CloudTest, TheBudgetHoldsOverRestartsAndBeginsAnewEachDay) {
  const TestFolder folder;
  const auto file = folder.path() / "budget.json";
  std::string day = "2026-03-01";
  const auto open = [&] { return CloudBudget::open(file, 1000, [&] { return day; }); };
  {
    auto budget = open();
    ASSERT_TRUE(budget);
    EXPECT_TRUE(budget->reserve(700));
    EXPECT_FALSE(budget->reserve(400)) << "it might take more than is left";
    budget->settle(700, 500);
    EXPECT_TRUE(budget->reserve(400));
  }
  auto again = open();
  EXPECT_EQ(again->left(), 100) << "a process that died had set 400 aside: they may have been spent";
  day = "2026-02-28";
  EXPECT_EQ(again->left(), 100) << "a clock that goes back gives nothing";
  day = "2026-03-02";
  EXPECT_EQ(again->left(), 1000);
  std::ofstream(file) << "{\"day\":\"2026-03-02\"}";
  EXPECT_FALSE(open()) << "what was spent is not forgotten";
}

TEST(CloudTest, KeysAndTextsGoOutEncryptedOnly) {
  const TestFolder folder;
  const auto open = [&](const char* url) {
    return Cloud::create(
        {.url = *parse_url(url), .key = "", .model = "m", .tokens_per_day = 1, .budget_file = folder.path() / "b"});
  };
  EXPECT_FALSE(open("http://cloud.example/v1"));
  EXPECT_TRUE(open("https://cloud.example/v1"));
  EXPECT_TRUE(open("http://127.0.0.1:1/v1"));
}

}  // namespace
}  // namespace hearth::serve
