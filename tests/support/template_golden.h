// The conversations of tests/data/templates and what jinja2 made of them (make_golden.py).
#pragma once

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <filesystem>
#include <string>

#include "base/mapped_file.h"
#include "text/chat_template.h"

namespace hearth::test {

inline std::string read(const std::string& name) {
  auto text = read_file(std::filesystem::path(HEARTH_TEST_DATA) / "templates" / name, 16u << 20);
  EXPECT_TRUE(text) << name;
  return text ? *text : "{}";
}

struct Conversation {
  boost::json::array messages;
  ChatTemplateOptions options;
};

inline Conversation conversation_of(const boost::json::object& context) {
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

inline void check(const Result<std::string>& result, const boost::json::object& expected, const std::string& where) {
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

}  // namespace hearth::test
