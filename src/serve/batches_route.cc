// OpenAI's files and batches: a file of requests in, a file of answers out, in the time that others leave.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "serve/all.h"
#include "serve/batch_runner.h"
#include "serve/fields.h"
#include "serve/multipart.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

boost::json::object json_of(const JobFile& file) {
  return {{"id", file.id},         {"object", "file"},        {"bytes", file.bytes},  {"created_at", file.created},
          {"filename", file.name}, {"purpose", file.purpose}, {"status", "processed"}};
}

boost::json::value id_or_null(const std::string& id) {
  return id.empty() ? boost::json::value() : boost::json::string(id);
}
boost::json::value time_or_null(int64_t time) { return time == 0 ? boost::json::value() : boost::json::value(time); }

boost::json::object json_of(const BatchJob& batch) {
  constexpr int64_t kWindowSeconds = 24 * 3600;  // what clients send and expect back; nothing is dropped after it
  boost::system::error_code ignored;
  const bool completed = batch.state == BatchState::kCompleted, cancelled = batch.state == BatchState::kCancelled;
  return {{"id", batch.id},
          {"object", "batch"},
          {"endpoint", batch.endpoint},
          {"errors", nullptr},
          {"input_file_id", batch.input_file},
          {"completion_window", "24h"},
          {"status", name(batch.state)},
          {"output_file_id", id_or_null(batch.output_file)},
          {"error_file_id", id_or_null(batch.error_file)},
          {"created_at", batch.created},
          {"in_progress_at", batch.created},
          {"expires_at", batch.created + kWindowSeconds},
          {"completed_at", time_or_null(completed ? batch.ended : 0)},
          {"cancelled_at", time_or_null(cancelled ? batch.ended : 0)},
          {"request_counts", {{"total", batch.total}, {"completed", batch.completed}, {"failed", batch.failed}}},
          {"metadata", boost::json::parse(batch.metadata_json, ignored)}};
}

template <typename T>
boost::json::object list_of(const std::vector<T>& items) {
  boost::json::array data;
  for (const T& item : items) data.push_back(json_of(item));
  boost::json::object list{{"object", "list"}, {"has_more", false}};
  list["first_id"] = items.empty() ? boost::json::value() : boost::json::string(items.front().id);
  list["last_id"] = items.empty() ? boost::json::value() : boost::json::string(items.back().id);
  list["data"] = std::move(data);
  return list;
}

Result<boost::json::object> upload(BatchRunner& runner, const RouteCall& call) {
  const HttpRequest& request = call.exchange->request();
  JobFile file{.tenant = call.identity.tenant, .purpose = "batch"};
  std::string_view content;
  bool found = false;
  const auto parts = TRY(read_form(request.header("content-type"), request.body));
  for (const FormPart& part : parts) {
    if (part.name == "purpose") file.purpose = part.content;
    if (part.name != "file") continue;
    file.name = part.file_name.empty() ? std::string("file.jsonl") : std::string(part.file_name);
    content = part.content, found = true;
  }
  if (!found) return fail(Code::kInvalidArgument, "file: the form has no such part");
  if (file.purpose != "batch")
    return fail(Code::kInvalidArgument, "purpose: \"{}\" is not known; use batch", file.purpose);
  return json_of(TRY(runner.journal().add_file(std::move(file), content)));
}

Result<boost::json::object> create(BatchRunner& runner, const RouteCall& call) {
  const boost::json::value body = TRY(json_body(call));
  Fields fields(body, "");
  BatchJob batch;
  batch.tenant = call.identity.tenant;
  batch.input_file = fields.text("input_file_id").value_or("");
  batch.endpoint = fields.text("endpoint").value_or("");
  const boost::json::object* metadata = fields.object("metadata");
  TRY(fields.check());
  if (!is_batch_endpoint(batch.endpoint))
    return fail(Code::kInvalidArgument, "endpoint: {} cannot be used in batches", batch.endpoint);
  batch.metadata_json = metadata == nullptr ? "null" : boost::json::serialize(*metadata);
  const std::string content = TRY(runner.journal().content(batch.tenant, batch.input_file));
  const auto lines = TRY(read_batch_lines(content, batch.endpoint, call.identity));
  const BatchJob made = TRY(runner.journal().add_batch(std::move(batch), lines));
  runner.wake();
  return json_of(made);
}

Result<boost::json::object> get_files(BatchRunner& runner, const RouteCall& call) {
  return list_of(TRY(runner.journal().files(call.identity.tenant)));
}
Result<boost::json::object> get_file(BatchRunner& runner, const RouteCall& call) {
  return json_of(TRY(runner.journal().file(call.identity.tenant, call.parameters.at(0))));
}
Result<boost::json::object> delete_file(BatchRunner& runner, const RouteCall& call) {
  TRY(runner.journal().remove_file(call.identity.tenant, call.parameters.at(0)));
  return boost::json::object{{"id", call.parameters.at(0)}, {"object", "file"}, {"deleted", true}};
}
Result<boost::json::object> get_batches(BatchRunner& runner, const RouteCall& call) {
  return list_of(TRY(runner.journal().batches(call.identity.tenant)));
}
Result<boost::json::object> get_batch(BatchRunner& runner, const RouteCall& call) {
  return json_of(TRY(runner.journal().batch(call.identity.tenant, call.parameters.at(0))));
}
Result<boost::json::object> cancel_batch(BatchRunner& runner, const RouteCall& call) {
  TRY(runner.journal().cancel(call.identity.tenant, call.parameters.at(0)));
  runner.wake();
  return get_batch(runner, call);
}

constexpr std::string_view kNone = "this server keeps no batches; start it with a place to keep them";

// A route that answers with what `body` gives, if there are batches at all.
template <Result<boost::json::object> (*body)(BatchRunner&, const RouteCall&)>
void answer(Server& server, RouteCall call) {
  if (server.batches() == nullptr) return reply_error(call, {Code::kNotFound, std::string(kNone)});
  const auto value = body(*server.batches(), call);
  if (!value) return reply_error(call, value.error());
  reply_json(call, 200, *value);
}

void get_content(Server& server, RouteCall call) {
  if (server.batches() == nullptr) return reply_error(call, {Code::kNotFound, std::string(kNone)});
  auto content = server.batches()->journal().content(call.identity.tenant, call.parameters.at(0));
  if (!content) return reply_error(call, content.error());
  call.exchange->reply(200, "application/jsonl", std::move(*content));
}

}  // namespace

const Route kPostFile{"POST", "/v1/files", Access::kUser, Dialect::kOpenAi, answer<upload>};
const Route kGetFiles{"GET", "/v1/files", Access::kUser, Dialect::kOpenAi, answer<get_files>};
const Route kGetFile{"GET", "/v1/files/{id}", Access::kUser, Dialect::kOpenAi, answer<get_file>};
const Route kDeleteFile{"DELETE", "/v1/files/{id}", Access::kUser, Dialect::kOpenAi, answer<delete_file>};
const Route kGetFileContent{"GET", "/v1/files/{id}/content", Access::kUser, Dialect::kOpenAi, get_content};
const Route kPostBatch{"POST", "/v1/batches", Access::kUser, Dialect::kOpenAi, answer<create>};
const Route kGetBatches{"GET", "/v1/batches", Access::kUser, Dialect::kOpenAi, answer<get_batches>};
const Route kGetBatch{"GET", "/v1/batches/{id}", Access::kUser, Dialect::kOpenAi, answer<get_batch>};
const Route kCancelBatch{"POST", "/v1/batches/{id}/cancel", Access::kUser, Dialect::kOpenAi, answer<cancel_batch>};

}  // namespace hearth::serve
