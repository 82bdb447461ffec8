// For compare_random.py: reads lines {"template": text, "context": {...}}, writes lines {"text": ...} or {"error":
// ...}.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>

#include "text/chat_template.h"

namespace {
hearth::Result<std::string> render(const boost::json::object& line) {
  const auto parsed = hearth::ChatTemplate::parse(line.at("template").as_string());
  if (!parsed) return std::unexpected(parsed.error());
  hearth::ChatTemplateOptions options;
  boost::json::array messages;
  for (const auto& [key, value] : line.at("context").as_object()) {
    if (key == "messages")
      messages = value.as_array();
    else if (key == "tools")
      options.tools = value;
    else if (key == "add_generation_prompt")
      options.add_generation_prompt = value.as_bool();
    else if (key == "bos_token")
      options.bos_token = value.as_string();
    else if (key == "eos_token")
      options.eos_token = value.as_string();
    else if (key == "date_string")
      options.date_string = value.as_string();
    else
      options.extra[key] = value;
  }
  return parsed->render(messages, options);
}
}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto result = render(boost::json::parse(line).as_object());
    boost::json::object answer;
    answer[result ? "text" : "error"] = result ? *result : result.error().message;
    std::cout << boost::json::serialize(answer) << std::endl;
  }
}
