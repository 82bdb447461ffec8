#include "serve/route.h"

#include <algorithm>
#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "net/url.h"
#include "serve/error.h"

namespace hearth::serve {
namespace {

std::string_view take_part(std::string_view& path) {
  const size_t slash = std::min(path.find('/'), path.size());
  const std::string_view part = path.substr(0, slash);
  path.remove_prefix(std::min(slash + 1, path.size()));
  return part;
}

// The values of the pattern's names if the path is of its form.
std::optional<std::vector<std::string>> parameters_of(std::string_view pattern, std::string_view path) {
  std::vector<std::string> values;
  pattern.remove_prefix(1);
  path.remove_prefix(1);
  while (!pattern.empty()) {
    const std::string_view want = take_part(pattern);
    if (!want.starts_with('{')) {
      if (take_part(path) != want) return std::nullopt;
      continue;
    }
    const bool rest = want.ends_with("...}");
    auto value = percent_decoded(rest ? std::exchange(path, "") : take_part(path));
    if (!value || value->empty()) return std::nullopt;
    values.push_back(std::move(*value));
  }
  return path.empty() ? std::optional(values) : std::nullopt;
}

}  // namespace

bool Identity::may_use(std::string_view model) const {
  return models.empty() || std::ranges::find(models, model) != models.end();
}

Result<Matched> match(std::span<const Route* const> routes, std::string_view method, std::string_view path) {
  if (method == "HEAD") method = "GET";
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  std::string methods;
  for (const Route* route : routes) {
    auto parameters = path.starts_with('/') ? parameters_of(route->path, path) : std::nullopt;
    if (!parameters) continue;
    if (route->method == method) return Matched{route, std::move(*parameters)};
    methods += fmt::format("{}{}", methods.empty() ? "" : ", ", route->method);
  }
  if (methods.empty()) return fail(Code::kNotFound, "there is nothing at {}", path.substr(0, 200));
  return fail(Code::kUnsupported, "{}", methods);
}

Result<boost::json::value> json_body(const RouteCall& call) {
  return parse_json(call.origin ? call.origin->body : call.exchange->request().body,
                    {.depth = limits::kHttpJsonDepth, .bytes = limits::kJsonFileBytes});
}

void reply_json(const RouteCall& call, int status, const boost::json::value& body) {
  call.exchange->reply(status, "application/json", boost::json::serialize(body));
}

void reply_error(const RouteCall& call, const Error& error) {
  const int status = http_status(error);
  call.record->error = info(error.code).name;
  if (status == 429) call.exchange->add_header("Retry-After", "1");
  reply_json(call, status, error_body(call.route->dialect, status, error));
}

}  // namespace hearth::serve
