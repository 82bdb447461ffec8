// Template source from a model file: parsing and rendering any of it gives a text or an error.
#include <boost/json/parse.hpp>
#include <string_view>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const boost::json::value kConversation = boost::json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be kind.\n"},
      {"role": "user", "content": [{"type": "text", "text": "H\u00ef \u4f60\u597d"}, {"type": "image"}]},
      {"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [1.5, null, true]}}}]},
      {"role": "tool", "content": "42"},
      {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}}]})");
  const auto parsed = hearth::ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  hearth::ChatTemplateOptions options;
  options.bos_token = "<s>";
  options.tools = kConversation.as_object().at("tools");
  options.date_string = "26 Jul 2024";
  (void)parsed->render(kConversation.as_object().at("messages").as_array(), options);
  return 0;
}
