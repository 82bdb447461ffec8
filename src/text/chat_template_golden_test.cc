// Every template of tests/data/templates with every conversation, against what jinja2 made of them (make_golden.py).
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "support/template_golden.h"
#include "text/chat_template.h"

namespace hearth {

using test::check;
using test::Conversation;
using test::conversation_of;
using test::read;

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

// One small template for each operator, filter, test, method and statement.
TEST(ChatTemplateGolden, EveryPartOfTheLanguageMeansWhatItMeansInJinja2) {
  const auto snippets = boost::json::parse(read("snippets.json")).as_object();
  const Conversation conversation = conversation_of(snippets.at("context").as_object());
  EXPECT_GE(snippets.at("cases").as_array().size(), 100u);
  for (const auto& snippet : snippets.at("cases").as_array()) {
    const std::string source(snippet.at("template").as_string());
    const auto parsed = ChatTemplate::parse(source);
    check(parsed ? parsed->render(conversation.messages, conversation.options) : std::unexpected(parsed.error()),
          snippet.at("expected").as_object(), source);
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
