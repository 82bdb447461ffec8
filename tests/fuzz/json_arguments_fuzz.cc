// Arguments of a tool call: text a model or a client wrote. Parsed within limits, then shown by a template; what tojson writes
// has to be JSON again, and printing it must not depend on its form.
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <string_view>

#include "base/json.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto kTemplate = hearth::ChatTemplate::parse(
      "{% set a = messages[0].tool_calls[0].function.arguments %}"
      "{% if a is mapping %}{% for k, v in a | dictsort %}{{ k }}={{ v | string | upper }}{{ v | tojson(indent=2) }}{% "
      "endfor %}{% endif %}"
      "{{ a }}\x01{{ a | tojson }}");
  if (!kTemplate) std::abort();
  const auto arguments =
      hearth::parse_json({reinterpret_cast<const char*>(data), size}, {.depth = 48, .bytes = 1 << 20});
  if (!arguments) return 0;
  const boost::json::array messages{
      {{"role", "assistant"},
       {"tool_calls", boost::json::array{{{"function", {{"name", "f"}, {"arguments", *arguments}}}}}}}};
  const auto text = kTemplate->render(messages, {});
  if (!text || text->find("Infinity") != std::string::npos) return 0;  // a number too large for JSON
  const auto again =
      hearth::parse_json(std::string_view(*text).substr(text->rfind('\x01') + 1), {.depth = 48, .bytes = 16u << 20});
  if (!again) std::abort();
  return 0;
}
