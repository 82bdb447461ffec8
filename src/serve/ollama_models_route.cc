// Ollama's routes about models: /api/tags, show, ps, pull, delete and version.
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "serve/all.h"
#include "serve/fields.h"
#include "serve/generation.h"
#include "serve/ollama.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;

json::object details_of(const ModelDetails& details) {
  return {{"parent_model", ""},
          {"format", details.format},
          {"family", details.family},
          {"families", json::array{details.family}},
          {"parameter_size", parameter_count_text(details.parameters)},
          {"quantization_level", details.quantization}};
}

json::array capabilities_of(const ModelDetails& details) {
  json::array out;
  if (details.completion) out.emplace_back("completion");
  if (details.embedding) out.emplace_back("embedding");
  if (details.tools) out.emplace_back("tools");
  if (details.thinking) out.emplace_back("thinking");
  return out;
}

json::object listed(const ListedModel& model) {
  return {{"name", model.source.name},
          {"model", model.source.name},
          {"modified_at", model.source.modified},
          {"size", model.source.bytes},
          {"digest", model.source.digest},
          {"details", details_of(model.details)},
          {"capabilities", capabilities_of(model.details)}};
}

void tags(Server& server, RouteCall call) {
  json::array models;
  for (const ListedModel& model : server.catalog().list())
    if (call.identity.may_use(model.source.name)) models.emplace_back(listed(model));
  reply_json(call, 200, {{"models", std::move(models)}});
}

void ps(Server& server, RouteCall call) {
  const auto forever = std::chrono::system_clock::now() + std::chrono::years(100);
  json::array models;
  for (const LoadedState& state : server.catalog().loaded()) {
    const std::string& name = state.model->name;
    const auto found = server.catalog().library().details(name);
    if (!found || !call.identity.may_use(name)) continue;
    json::object shown = listed(*found);
    shown["size"] = state.model->memory_bytes;
    shown["size_vram"] = 0;
    shown["expires_at"] = iso_time(state.expires.value_or(forever));
    if (state.model->engine) shown["context_length"] = state.model->engine->model().decoder->context();
    models.emplace_back(std::move(shown));
  }
  reply_json(call, 200, {{"models", std::move(models)}});
}

// The name in a body, under either of the fields that clients use.
Result<std::string> model_of(Server& server, const RouteCall& call, bool& stream) {
  const json::value value = TRY(json_body(call));
  Fields body(value, "");
  auto name = body.text("model");
  if (!name) name = body.text("name");
  if (!name || name->empty()) body.wrong("model", "is missing");
  stream = body.flag("stream").value_or(true);
  TRY(body.check());
  return allowed_model(server, call, std::move(*name));
}

Result<ListedModel> find(Server& server, const std::string& name) {
  auto found = server.catalog().library().details(name);
  if (!found && found.error().code == Code::kNotFound) return fail(Code::kNotFound, "model '{}' not found", name);
  return found;
}

Result<void> try_show(Server& server, const RouteCall& call) {
  bool stream = false;
  const std::string name = TRY(model_of(server, call, stream));
  const ListedModel model = TRY(find(server, name));
  const ModelDetails& details = model.details;
  json::object info{{"general.architecture", details.family}, {"general.parameter_count", details.parameters}};
  info[details.family + ".context_length"] = details.context_max;
  info[details.family + ".embedding_length"] = details.d_model;
  reply_json(call, 200,
             {{"modelfile", ""},
              {"parameters", ""},
              {"template", details.chat_template},
              {"details", details_of(details)},
              {"model_info", std::move(info)},
              {"capabilities", capabilities_of(details)},
              {"modified_at", model.source.modified}});
  return {};
}

// The lines by which a client follows a pull, or the one answer at its end.
class PullAnswer {
 public:
  PullAnswer(const RouteCall& call, bool stream) : call_(call), stream_(stream) {
    if (stream) call.exchange->begin(200, "application/x-ndjson", {});
    call.exchange->on_gone([gone = gone_] { *gone = true; });
    tell({{"status", "pulling manifest"}});
  }
  void progress(const PullProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (progress.bytes != progress.total && now - told_ < std::chrono::milliseconds(100)) return;
    told_ = now;
    const std::string digest = progress.sha256.empty() ? progress.file : "sha256:" + progress.sha256;
    json::object line{{"status", "pulling " + progress.sha256.substr(0, 12)}, {"digest", digest}};
    if (progress.total) line["total"] = *progress.total;
    line["completed"] = progress.bytes;
    tell(line);
  }
  void end(const Result<void>& done) {
    if (!stream_ && !done) return reply_error(call_, done.error());
    const json::object last =
        done ? json::object{{"status", "success"}} : json::object{{"error", done.error().message}};
    tell(last);
    if (stream_) return call_.exchange->end();
    reply_json(call_, 200, last);
  }
  [[nodiscard]] const std::atomic<bool>& gone() const { return *gone_; }

 private:
  void tell(const json::object& line) {
    if (stream_ && !call_.exchange->write(json::serialize(line) + "\n")) *gone_ = true;
  }

  const RouteCall& call_;
  const bool stream_;
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
  std::chrono::steady_clock::time_point told_{};
};

// A model that is there is as good as pulled. Others come from the hub alone, never from an address that a client names.
Result<void> try_pull(Server& server, const RouteCall& call) {
  bool stream = true;
  const std::string name = TRY(model_of(server, call, stream));
  const auto found = find(server, name);
  if (!found && found.error().code != Code::kNotFound) return std::unexpected(found.error());
  if (!found && (!server.options().pull || !call.identity.admin))
    return fail(Code::kNotFound,
                "model '{}' not found; fetching one needs a key with admin rights, or on the server: hearth pull {}",
                name, name);
  PullAnswer answer(call, stream);
  Result<void> done;
  if (!found) {
    call.exchange->run_waiting([&] {
      done = server.options().pull(name, answer.gone(), [&](const PullProgress& news) { answer.progress(news); });
    });
  }
  answer.end(done);
  return {};
}

Result<void> try_remove(Server& server, const RouteCall& call) {
  bool stream = false;
  const std::string name = TRY(model_of(server, call, stream));
  TRY(find(server, name));
  server.catalog().unload(name);
  TRY(server.catalog().library().store().remove(name));
  reply_json(call, 200, {{"status", "success"}});
  return {};
}

template <Result<void> (*kTry)(Server&, const RouteCall&)>
void handle(Server& server, RouteCall call) {
  if (const auto done = kTry(server, call); !done) reply_error(call, done.error());
}

// Clients compare it with the version of Ollama that brought what they need.
void version(Server& server, RouteCall call) {
  reply_json(call, 200, {{"version", "0.12.0"}, {"hearth", server.options().version}});
}

}  // namespace

const Route kOllamaTags{"GET", "/api/tags", Access::kUser, Dialect::kOllama, tags};
const Route kOllamaPs{"GET", "/api/ps", Access::kUser, Dialect::kOllama, ps};
const Route kOllamaShow{"POST", "/api/show", Access::kUser, Dialect::kOllama, handle<try_show>};
const Route kOllamaPull{"POST", "/api/pull", Access::kUser, Dialect::kOllama, handle<try_pull>};
const Route kOllamaDelete{"DELETE", "/api/delete", Access::kAdmin, Dialect::kOllama, handle<try_remove>};
const Route kOllamaVersion{"GET", "/api/version", Access::kUser, Dialect::kOllama, version};

}  // namespace hearth::serve
