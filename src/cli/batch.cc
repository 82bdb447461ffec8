#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <memory>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_catalog.h"
#include "cli/serve_security.h"
#include "cli/settings.h"
#include "model/kv_gate.h"
#include "serve/server.h"

namespace hearth::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTenant = "local";
constexpr uint64_t kInputBytesMax = uint64_t{256} << 20;

struct BatchOptions {
  std::string input, output;
  ModelCatalogOptions catalog;
  bool json = false;
};

// The first line says for which route the batch is.
Result<std::string> endpoint_of(std::string_view content) {
  const auto value = parse_json(content.substr(0, content.find('\n')));
  const boost::json::value* url = value && value->is_object() ? value->get_object().if_contains("url") : nullptr;
  if (url == nullptr || !url->is_string() || !serve::is_batch_endpoint(url->get_string()))
    return fail(Code::kInvalidArgument, "line 1: url: want a route of batches, such as \"/v1/chat/completions\"");
  return std::string(url->get_string());
}

// The batch of an earlier run of the same input, or a new one.
Result<BatchJob> take_up(BatchJournal& journal, std::string_view content) {
  for (const BatchJob& batch : TRY(journal.batches(kTenant)))
    if (TRY(journal.content(kTenant, batch.input_file)) == content) return batch;
  const std::string endpoint = TRY(endpoint_of(content));
  const auto lines = TRY(serve::read_batch_lines(content, endpoint, {.tenant = std::string(kTenant)}));
  const JobFile input =
      TRY(journal.add_file({.tenant = std::string(kTenant), .name = "input", .purpose = "batch"}, content));
  BatchJob batch;
  batch.tenant = kTenant, batch.endpoint = endpoint, batch.input_file = input.id, batch.metadata_json = "null";
  return journal.add_batch(std::move(batch), lines);
}

// A line now and then, with what was done and how long the rest takes at the rate of this run.
class BatchProgress {
 public:
  explicit BatchProgress(int done_before) : before_(done_before) {}
  void show(const BatchJob& batch) {
    const auto now = Clock::now();
    if (now - shown_ < std::chrono::seconds(10)) return;
    shown_ = now;
    const int done = batch.completed + batch.failed;
    const double took = std::chrono::duration<double>(now - begun_).count(), rate = (done - before_) / took;
    const std::string left = rate > 0 ? fmt::format(", {:.0f} s left", std::ceil((batch.total - done) / rate)) : "";
    fmt::print(stderr, "{} of {} lines, {:.2f} lines/s{}\n", done, batch.total, rate, left);
  }

 private:
  using Clock = std::chrono::steady_clock;
  int before_;
  Clock::time_point begun_ = Clock::now(), shown_ = begun_;
};

Result<void> write_results(BatchJournal& journal, const BatchJob& batch, const fs::path& output) {
  std::string text;
  for (const std::string& file : {batch.output_file, batch.error_file})
    if (!file.empty()) text += TRY(journal.content(kTenant, file));
  return write_file_atomically(output, std::as_bytes(std::span(text)));
}

Result<BatchJob> work_off(serve::Server& server, const std::string& id) {
  const InterruptFlag interrupt;
  BatchJournal& journal = server.batches()->journal();
  BatchJob batch = TRY(journal.batch(kTenant, id));
  BatchProgress progress(batch.completed + batch.failed);
  server.batches()->wake();
  while (batch.state == BatchState::kInProgress) {
    if (interrupt.raised())
      return fail(Code::kCancelled, "stopped after {} of {} lines; the same command goes on",
                  batch.completed + batch.failed, batch.total);
    server.batches()->wait_until_idle(std::chrono::milliseconds(200));
    batch = TRY(journal.batch(kTenant, id));
    progress.show(batch);
  }
  return batch;
}

void tell(const BatchOptions& options, const BatchJob& batch) {
  if (!options.json) return fmt::print(stderr, "{} lines answered, in {}\n", batch.completed, options.output);
  fmt::print("{}\n", boost::json::serialize(boost::json::object{{"total", batch.total},
                                                                {"completed", batch.completed},
                                                                {"failed", batch.failed},
                                                                {"output", options.output}}));
}

Result<void> run(const BatchOptions& options) {
  const std::string content = TRY(read_file(options.input, kInputBytesMax));
  const std::string journal_path = options.output + ".journal";
  const Key key = TRY(storage_key());
  auto journal = TRY(BatchJournal::open(journal_path, key));
  const BatchJob job = TRY(take_up(*journal, content));

  serve::ServerOptions server_options;  // that listens nowhere
  server_options.log_form = serve::LogForm::kOff;
  server_options.batch_parallel = options.catalog.engine.parallel;
  server_options.access.key_file = serve_folder() / "keys.json";
  ModelCatalogOptions catalog_options = options.catalog;
  catalog_options.engine.kv_type = TRY(planned_kv_type(options.catalog.model.kv_type));
  catalog_options.keep_alive_seconds = -1;
  catalog_options.models = {options.catalog.model.model};
  std::vector<std::string> names;
  auto catalog = TRY(make_catalog(catalog_options, names));
  TRY(catalog->acquire(names.front(), kForever));  // what is wrong with it is told once, not for each line
  server_options.default_model = names.front();
  auto server = TRY(serve::Server::start(std::move(server_options), std::move(catalog), std::move(journal)));
  const BatchJob batch = TRY(work_off(*server, job.id));
  TRY(write_results(server->batches()->journal(), batch, options.output));
  server.reset();
  std::error_code ignored;
  for (const char* part : {"", "-wal", "-shm"}) fs::remove(journal_path + part, ignored);
  tell(options, batch);
  if (batch.failed == 0) return {};
  return fail(Code::kInvalidArgument, "{} of {} lines failed; {} says why", batch.failed, batch.total, options.output);
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<BatchOptions>();
  app.add_option("IN", options->input, "A line of JSON per request: custom_id, method, url, body, as for /v1/batches")
      ->required();
  app.add_option("OUT", options->output, "A line of JSON per answer; written when all are there")->required();
  app.add_option("--model", options->catalog.model.model, "For requests that name none: a name in the store, or a file")
      ->capture_default_str();
  declare_model_options(app, options->catalog.model);
  declare_speculate_option(app, options->catalog.model);
  declare_exit_kld_option(app, options->catalog.model);
  app.add_option("--parallel", options->catalog.engine.parallel, "Requests at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_flag("--json", options->json, "How many were answered and how many failed, as JSON on stdout");
  return [options] { return run(*options); };
}

}  // namespace

extern const Command kBatch;
const Command kBatch{"batch", "answer a file of requests; goes on where it was when it was stopped",
                     "  hearth batch requests.jsonl answers.jsonl\n"
                     "  hearth batch requests.jsonl answers.jsonl --model ./model.gguf --parallel 16 --json",
                     declare};

}  // namespace hearth::cli
