// Conversations that outlive the server, under names: POST /v1/sessions/{name}/save and /load, GET /v1/sessions, DELETE /v1/sessions/{name}.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>

#include "base/file_io.h"
#include "base/json.h"
#include "base/limits.h"
#include "serve/all.h"
#include "serve/fields.h"
#include "serve/generation.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::string_view kExtension = ".session";
constexpr size_t kSessionsMax = 256;  // of one key

// The folder of who asks.
Result<fs::path> folder_of(Server& server, const RouteCall& call) {
  const auto& sessions = server.options().sessions;
  if (!sessions) return fail(Code::kNotFound, "this server saves no conversations; start it with --session-folder");
  return sessions->folder / sessions->key.name_of("sessions of " + call.identity.tenant);
}

Result<fs::path> file_of(Server& server, const RouteCall& call) {
  const std::string& name = call.parameters.at(0);
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  if (name.empty() || name.size() > limits::kModelNameBytes || name.front() == '.' || !std::ranges::all_of(name, fine))
    return fail(Code::kInvalidArgument, "name: want 1 to {} letters, digits, '-', '_' and '.', and no '.' first",
                limits::kModelNameBytes);
  return TRY(folder_of(server, call)) / (name + std::string(kExtension));
}

// What was said, as the template has it, or as it stands.
Result<std::vector<Token>> tokens_of(const TextSide& side, Fields& body, json::object& note) {
  const json::array* messages = body.array("messages");
  const auto prompt = body.text("prompt");
  if ((messages != nullptr) == prompt.has_value()) body.wrong("messages", "is missing, or there is a prompt, too");
  TRY(body.check());
  std::string text = prompt.value_or("");
  if (messages) {
    ChatTemplateOptions as_it_is;
    as_it_is.add_generation_prompt = false;
    text = TRY(render_chat(side, *messages, std::move(as_it_is)));
    note["messages"] = *messages;
  } else {
    note["text"] = text;
  }
  return encode_prompt(*side.tokenizer, text);
}

Result<json::object> save(Server& server, const RouteCall& call) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string model = body.text("model").value_or("");
  const fs::path path = TRY(file_of(server, call));
  TRY(body.check());
  const Acquired acquired = TRY(acquire(server, call, model));
  if (acquired.adapter) return fail(Code::kInvalidArgument, "model: conversations with an adapter cannot be saved");
  json::object note;
  std::vector<Token> tokens = TRY(tokens_of(acquired.text(), body, note));
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return fail(Code::kIo, "the folder for sessions: {}", error.message());
  const auto there = static_cast<size_t>(std::distance(fs::directory_iterator(path.parent_path(), error), {}));
  if (there >= kSessionsMax && !fs::exists(path, error))
    return fail(Code::kLimit, "{} conversations are saved already; delete some", there);
  auto saved = acquired.model->engine->save_session(call.identity.tenant, std::move(tokens), json::serialize(note),
                                                    path, server.options().sessions->key);
  if (!saved) return std::unexpected(saved.error());
  return json::object{
      {"name", call.parameters.at(0)}, {"model", model}, {"tokens", *saved}, {"bytes", fs::file_size(path, error)}};
}

Result<json::object> load(Server& server, const RouteCall& call) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  std::string model = body.text("model").value_or("");
  TRY(body.check());
  const fs::path path = TRY(file_of(server, call));
  std::error_code error;
  const std::string& name = call.parameters.at(0);
  if (!fs::exists(path, error)) return fail(Code::kNotFound, "no conversation '{}' is saved", name);
  const Acquired acquired = TRY(acquire(server, call, model));
  if (acquired.adapter) return fail(Code::kInvalidArgument, "model: no conversation is saved with an adapter");
  const auto loaded = acquired.model->engine->load_session(call.identity.tenant, path, server.options().sessions->key);
  // Not where it lies.
  if (!loaded) {
    const std::string_view why = loaded.error().message;
    return fail(loaded.error().code, "'{}'{}", name,
                why.substr(why.starts_with(path.string()) ? path.string().size() : 0));
  }
  const json::value note = TRY(parse_json(loaded->note));
  json::object answer{{"name", name}, {"model", model}, {"tokens", loaded->tokens.size()}};
  if (const json::object* said = note.if_object())
    for (const auto& [key, part] : *said) answer[key] = part;
  return answer;
}

Result<json::object> list(Server& server, const RouteCall& call) {
  json::array sessions;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(TRY(folder_of(server, call)), error))
    if (file.path().extension() == kExtension)
      sessions.push_back({{"name", file.path().stem().string()},
                          {"bytes", file.file_size(error)},
                          {"saved", written_utc(file.path())}});
  return json::object{{"sessions", std::move(sessions)}};
}

Result<json::object> remove(Server& server, const RouteCall& call) {
  std::error_code error;
  if (!fs::remove(TRY(file_of(server, call)), error))
    return fail(Code::kNotFound, "no conversation '{}' is saved", call.parameters.at(0));
  return json::object{{"name", call.parameters.at(0)}, {"deleted", true}};
}

template <Result<json::object> (*body)(Server&, const RouteCall&)>
void answer(Server& server, RouteCall call) {
  Result<json::object> done = fail(Code::kBusy, "the server is ending");
  call.exchange->run_waiting([&] { done = body(server, call); });
  if (!done) return reply_error(call, done.error());
  reply_json(call, 200, *done);
}

}  // namespace

const Route kSaveSession{"POST", "/v1/sessions/{name}/save", Access::kUser, Dialect::kOpenAi, answer<save>};
const Route kLoadSession{"POST", "/v1/sessions/{name}/load", Access::kUser, Dialect::kOpenAi, answer<load>};
const Route kSessions{"GET", "/v1/sessions", Access::kUser, Dialect::kOpenAi, answer<list>};
const Route kDeleteSession{"DELETE", "/v1/sessions/{name}", Access::kUser, Dialect::kOpenAi, answer<remove>};

}  // namespace hearth::serve
