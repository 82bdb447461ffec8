// `hearth session`: conversations that a running server saves under names, and goes on with after a restart.
#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <memory>

#include "base/json.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/settings.h"
#include "net/http_call.h"
#include "net/http_transfer.h"

namespace hearth::cli {
namespace {

namespace json = boost::json;

struct Options {
  std::string action, name, server = "http://127.0.0.1:8080", model;
  std::filesystem::path messages;
};

Result<json::object> object_of(const std::string& text) {
  json::value value = TRY(parse_json(text));
  if (!value.is_object()) return fail(Code::kMalformed, "the server answered no JSON object");
  return std::move(value.get_object());
}

Result<json::object> post(const Options& options, const json::object& body) {
  const Url url = TRY(parse_url(fmt::format("{}/v1/sessions/{}/{}", options.server, options.name, options.action)));
  std::vector<std::string> headers{"Content-Type: application/json"};
  if (const std::string key = environment("HEARTH_API_KEY"); !key.empty())
    headers.push_back("Authorization: Bearer " + key);
  const std::string text = json::serialize(body);
  const HttpReply reply = TRY(http_call(url, {.headers = headers, .body = text, .total_max = std::chrono::hours(1)}));
  json::object answer = TRY(object_of(reply.body));
  if (reply.status == 200) return answer;
  const json::value* error = answer.if_contains("error");
  const json::value* message = error && error->is_object() ? error->get_object().if_contains("message") : nullptr;
  return fail(reply.status == 404 ? Code::kNotFound : Code::kInvalidArgument, "{}",
              message && message->is_string() ? std::string(message->get_string()) : reply.body);
}

Result<void> list(const Options& options) {
  HttpOptions http;
  http.bearer_token = environment("HEARTH_API_KEY");
  const Url url = TRY(parse_url(options.server + "/v1/sessions"));
  const std::string text = TRY(http_get_text(url, http, limits::kPromptBytes));
  fmt::print("{}\n", json::serialize(TRY(object_of(text))));
  return {};
}

Result<void> run(const Options& options) {
  if (options.action == "list") return list(options);
  if (options.name.empty()) return fail(Code::kInvalidArgument, "hearth session {} needs a NAME", options.action);
  json::object body;
  if (!options.model.empty()) body["model"] = options.model;
  if (options.action == "save") {
    if (options.messages.empty())
      return fail(Code::kInvalidArgument,
                  "hearth session save needs --messages FILE: the conversation, as a chat's /save writes it");
    const std::string text = TRY(read_file(options.messages, limits::kPromptBytes));
    auto said = object_of(text);
    if (!said || !said->contains("messages"))
      return fail(Code::kMalformed, "{}: no JSON object with \"messages\"", options.messages.string());
    body["messages"] = said->at("messages");
  }
  fmt::print("{}\n", json::serialize(TRY(post(options, body))));
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("ACTION", options->action, "save, load or list")
      ->required()
      ->check(CLI::IsMember({"save", "load", "list"}));
  app.add_option("NAME", options->name, "What it is saved as");
  app.add_option("--messages", options->messages, "The conversation to save: {\"messages\": [...]}");
  app.add_option("--model", options->model, "The model that answers it (default: the server's)");
  app.add_option("--server", options->server, "The server (key: HEARTH_API_KEY)")->capture_default_str();
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kSession;
const Command kSession{"session", "save conversations of a running server with their state, and load them again",
                       "  hearth session save trip --messages trip.json\n"
                       "  hearth session load trip                     # prints what was said; it goes on at once\n"
                       "  hearth session list --server http://127.0.0.1:8080",
                       declare};

}  // namespace hearth::cli
