// Every template of tests/data/templates with every conversation, against what jinja2 made of them (make_golden.py).
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <filesystem>

#include "base/mapped_file.h"
#include "text/chat_template.h"

namespace hearth {
namespace {
std::string read(const std::string& name) {
  auto text = read_file(std::filesystem::path(HEARTH_TEST_DATA) / "templates" / name, 16u << 20);
  EXPECT_TRUE(text) << name;
  return text ? *text : "{}";
}

struct Conversation {
  boost::json::array messages;
  ChatTemplateOptions options;
};

Conversation conversation_of(const boost::json::object& context) {
  Conversation conversation;
  conversation.options.date_string = "26 Jul 2024";  // reference.py's
  for (const auto& [key, value] : context) {
    if (key == "messages") {
      conversation.messages = value.as_array();
    } else if (key == "tools") {
      conversation.options.tools = value;
    } else if (key == "add_generation_prompt") {
      conversation.options.add_generation_prompt = value.as_bool();
    } else if (key == "bos_token") {
      conversation.options.bos_token = value.as_string();
    } else if (key == "eos_token") {
      conversation.options.eos_token = value.as_string();
    } else {
      conversation.options.extra[key] = value;
    }
  }
  return conversation;
}

void check(const Result<std::string>& result, const boost::json::object& expected, const std::string& where) {
  if (const auto* text = expected.if_contains("text")) {
    ASSERT_TRUE(result) << where << ": " << result.error().message;
    EXPECT_EQ(*result, std::string_view(text->as_string())) << where;
    return;
  }
  ASSERT_FALSE(result) << where << ": " << *result;
  const auto* raised = expected.if_contains("raised");
  EXPECT_EQ(result.error().code == Code::kInvalidArgument, raised != nullptr)
      << where << ": " << result.error().message;
  if (raised != nullptr) {
    EXPECT_EQ(result.error().message, std::string_view(raised->as_string())) << where;
  }
}
}  // namespace

TEST(ChatTemplateGolden, RendersAsJinja2Does) {
  const auto conversations = boost::json::parse(read("conversations.json")).as_object();
  const auto golden = boost::json::parse(read("golden.json")).as_object();
  EXPECT_GE(golden.size(), 20u);
  for (const auto& [file, expected] : golden) {
    const auto parsed = ChatTemplate::parse(read(file));
    ASSERT_TRUE(parsed) << file << ": " << parsed.error().message;
    for (const auto& [name, result] : expected.as_object()) {
      const Conversation conversation = conversation_of(conversations.at(name).as_object());
      check(parsed->render(conversation.messages, conversation.options), result.as_object(),
            std::string(file) + " with " + std::string(name));
    }
  }
}

// A program is shared by all renders: what one does must not be seen by the next.
TEST(ChatTemplateGolden, RendersTheSameTwice) {
  const auto conversations = boost::json::parse(read("conversations.json")).as_object();
  const auto parsed = ChatTemplate::parse(read("loop_control.jinja"));
  ASSERT_TRUE(parsed);
  for (const auto& [name, context] : conversations) {
    const Conversation conversation = conversation_of(context.as_object());
    const auto first = parsed->render(conversation.messages, conversation.options);
    const auto second = parsed->render(conversation.messages, conversation.options);
    EXPECT_EQ(first.has_value(), second.has_value()) << name;
    if (first && second) {
      EXPECT_EQ(*first, *second) << name;
    }
  }
}

}  // namespace hearth
