#include "serve/error.h"

#include <algorithm>

namespace hearth::serve {
namespace {

struct Kind {
  int status;
  std::string_view openai, anthropic;
};
constexpr Kind kKinds[] = {
    {400, "invalid_request_error", "invalid_request_error"}, {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},           {404, "not_found_error", "not_found_error"},
    {405, "invalid_request_error", "invalid_request_error"}, {413, "invalid_request_error", "request_too_large"},
    {429, "rate_limit_error", "rate_limit_error"},           {503, "overloaded_error", "overloaded_error"},
};

// "messages[2].content" of "messages[2].content: want a string".
std::string_view field_of(std::string_view message) {
  const std::string_view field = message.substr(0, std::min(message.find(": "), message.size()));
  const bool is_field = field.size() < message.size() && !field.empty() &&
                        std::ranges::all_of(
                            field,
                            [](char c) {
                              return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                                     std::string_view("_.[]-").contains(c);
                            });
  return is_field ? field : std::string_view();
}

}  // namespace

int http_status(const Error& error) {
  switch (error.code) {
    case Code::kUnsupported:
    case Code::kLimit:
      return 400;
    case Code::kCancelled:
      return 503;
    default:
      return info(error.code).http_status;
  }
}

boost::json::object error_body(Dialect dialect, int status, const Error& error) {
  if (dialect == Dialect::kOllama) return {{"error", error.message}};
  const auto* kind = std::ranges::find(kKinds, status, &Kind::status);
  const bool known = kind != std::end(kKinds);
  if (dialect == Dialect::kAnthropic) {
    return {{"type", "error"},
            {"error", {{"type", known ? kind->anthropic : "api_error"}, {"message", error.message}}}};
  }
  boost::json::object body{{"message", error.message},
                           {"type", known ? kind->openai : "server_error"},
                           {"param", nullptr},
                           {"code", info(error.code).name}};
  if (const std::string_view field = field_of(error.message); status == 400 && !field.empty()) body["param"] = field;
  return {{"error", std::move(body)}};
}

}  // namespace hearth::serve
