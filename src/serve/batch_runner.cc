#include "serve/batch_runner.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <deque>

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

constexpr std::string_view kEndpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses",
                                           "/v1/decide"};
constexpr std::chrono::seconds kLookAgain{1};

// The line of the output (or error) file.
std::string result_line(const BatchLine& line, int status, std::string_view body) {
  boost::system::error_code error;
  boost::json::value parsed = boost::json::parse(body, error);
  if (error) parsed = boost::json::string(body);
  return boost::json::serialize(
      boost::json::object{{"id", fmt::format("{}-{}", line.batch, line.index)},
                          {"custom_id", line.custom_id},
                          {"response", {{"status_code", status}, {"body", std::move(parsed)}}},
                          {"error", nullptr}});
}

}  // namespace

bool is_batch_endpoint(std::string_view path) { return std::ranges::find(kEndpoints, path) != std::end(kEndpoints); }

Result<std::vector<BatchJournal::NewLine>> read_batch_lines(std::string_view content, std::string_view endpoint,
                                                            const Identity& identity) {
  std::vector<BatchJournal::NewLine> lines;
  std::set<std::string, std::less<>> ids;
  int number = 0;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\n'), content.size());
    const std::string_view text = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto wrong = [&](std::string_view what) { return fail(Code::kInvalidArgument, "line {}: {}", number, what); };
    auto value = parse_json(text);
    if (!value) return wrong(value.error().message);
    const boost::json::object* object = value->if_object();
    if (object == nullptr) return wrong("want an object");
    const auto text_of = [&](std::string_view field) -> std::string_view {
      const boost::json::value* found = object->if_contains(field);
      return found != nullptr && found->is_string() ? std::string_view(found->get_string()) : std::string_view();
    };
    const boost::json::value* body = object->if_contains("body");
    if (text_of("custom_id").empty()) return wrong("custom_id: want a text");
    if (!ids.emplace(text_of("custom_id")).second) return wrong("custom_id: used before");
    if (text_of("method") != "POST") return wrong("method: want \"POST\"");
    if (text_of("url") != endpoint) return wrong(fmt::format("url: want \"{}\", the endpoint of the batch", endpoint));
    if (body == nullptr || !body->is_object()) return wrong("body: want an object");
    const boost::json::value* stream = body->get_object().if_contains("stream");
    if (stream != nullptr && *stream != false) return wrong("body.stream: a batch cannot stream");
    const boost::json::value* model = body->get_object().if_contains("model");
    // The line will run without the limits of the key: what they forbid, the usual model too, is found here.
    if ((model == nullptr || !model->is_string()) && !identity.models.empty()) return wrong("body.model: want a text");
    if (model != nullptr && model->is_string() && !identity.may_use(model->get_string()))
      return wrong("body.model: this key may not use it");
    if (lines.size() == limits::kBatchLines) return wrong(fmt::format("the limit is {} lines", limits::kBatchLines));
    lines.push_back({std::string(text_of("custom_id")), boost::json::serialize(*body)});
  }
  if (lines.empty()) return fail(Code::kInvalidArgument, "the file has no lines");
  return lines;
}

// What the exchanges tell the runner. Outlives both.
struct BatchRunner::Shared {
  struct Done {
    BatchLine line;
    int status = 0;
    std::string body;
    std::function<void()> owned;  // what the exchange kept alive; let go when its job has ended
  };
  std::mutex mutex;
  std::condition_variable_any wake;
  std::deque<std::function<void()>> jobs;  // of the exchanges, run one after the other
  std::deque<Done> done;
  bool closed = false, woken = false, idle = false;
};

// A line as a request that looks like one from outside.
class BatchRunner::LineExchange : public HttpExchange {
 public:
  LineExchange(BatchLine line, std::shared_ptr<Shared> shared) : line_(std::move(line)), shared_(std::move(shared)) {
    request_.method = "POST", request_.path = line_.endpoint, request_.body = line_.body, request_.peer = "batch";
    request_.local = true;
  }
  ~LineExchange() override {
    answer();
    if (done_) done_({.status = status_, .bytes = body_.size(), .client_gone = false});
  }
  [[nodiscard]] const HttpRequest& request() const override { return request_; }
  void add_header(std::string, std::string) override {}
  void reply(int status, std::string_view, std::string body, HttpHeaders) override {
    status_ = status, body_ = std::move(body);
    answer();
  }
  void begin(int status, std::string_view, HttpHeaders) override { status_ = status; }
  bool write(std::string bytes) override {
    body_ += bytes;
    return true;
  }
  void end() override { answer(); }
  // Nobody goes before a line is answered, but whoever answers it lives as long as the function does.
  void on_gone(std::function<void()> gone) override {
    if (!answered_) gone_ = std::move(gone);
  }
  // Nobody waits for the answer any more. Not while jobs of the exchange run.
  void abandon() { gone_ = {}; }
  void on_done(std::function<void(const HttpOutcome&)> done) override { done_ = std::move(done); }
  void post(std::function<void()> job) override {
    const std::scoped_lock lock(shared_->mutex);
    if (shared_->closed) return;
    shared_->jobs.push_back(std::move(job));
    shared_->wake.notify_all();
  }

 private:
  void answer() {
    if (std::exchange(answered_, true)) return;
    const std::scoped_lock lock(shared_->mutex);
    shared_->done.push_back({std::move(line_), status_, body_, std::exchange(gone_, {})});
    shared_->wake.notify_all();
  }

  BatchLine line_;
  std::shared_ptr<Shared> shared_;
  HttpRequest request_;
  int status_ = 500;
  std::string body_;
  bool answered_ = false;
  std::function<void()> gone_;
  std::function<void(const HttpOutcome&)> done_;
};

BatchRunner::BatchRunner(Server& server, std::unique_ptr<BatchJournal> journal, int parallel)
    : server_(server),
      journal_(std::move(journal)),
      parallel_(static_cast<size_t>(parallel)),
      shared_(std::make_shared<Shared>()),
      thread_([this](std::stop_token stop) { work(std::move(stop)); }) {}

BatchRunner::~BatchRunner() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  for (const auto& exchange : exchanges_)
    if (const auto running = exchange.lock()) running->abandon();
  std::deque<std::function<void()>> jobs;  // they hold exchanges, whose ends take the lock
  const std::scoped_lock lock(shared_->mutex);
  shared_->closed = true;
  jobs.swap(shared_->jobs);
}

void BatchRunner::wake() {
  const std::scoped_lock lock(shared_->mutex);
  shared_->woken = true, shared_->idle = false;
  shared_->wake.notify_all();
}

bool BatchRunner::wait_until_idle(std::chrono::milliseconds patience) {
  std::unique_lock lock(shared_->mutex);
  return shared_->wake.wait_for(lock, patience, [&] { return shared_->idle; });
}

void BatchRunner::work(std::stop_token stop) {
  std::vector<std::pair<std::string, int>> running;
  bool look = true, pause = false;
  while (!stop.stop_requested()) {
    if (look && !pause && running.size() < parallel_) {
      auto lines = journal_->waiting(parallel_ - running.size(), running);
      if (!lines) LOG(kError, "batches stand still: {}", lines.error().message);
      for (const BatchLine& line : lines.value_or(std::vector<BatchLine>{})) {
        running.emplace_back(line.batch, line.index);
        start(line);
      }
      look = false;
      if (running.empty())
        if (auto ended = journal_->end_cancelled(); !ended) LOG(kError, "{}", ended.error().message);
    }
    std::unique_lock lock(shared_->mutex);
    const auto news = [&] { return !shared_->jobs.empty() || !shared_->done.empty() || shared_->woken; };
    if (running.empty() && !pause && !news()) shared_->idle = true, shared_->wake.notify_all();
    if (pause)
      pause = shared_->wake.wait_for(lock, stop, kLookAgain, news), look = look || !pause;
    else
      shared_->wake.wait(lock, stop, news);
    look = std::exchange(shared_->woken, false) || look;
    while (!shared_->jobs.empty()) {
      auto job = std::move(shared_->jobs.front());
      shared_->jobs.pop_front();
      lock.unlock();
      job();
      job = {};  // before the lock is taken again: it may hold the last reference to an exchange
      lock.lock();
    }
    std::deque<Shared::Done> done;
    done.swap(shared_->done);
    lock.unlock();
    for (const Shared::Done& one : done) {
      std::erase(running, std::pair(one.line.batch, one.line.index));
      look = true;
      // Too much to do is no answer: the line is run again after a while.
      if (one.status == 429 || one.status == 503) {
        pause = true;
        continue;
      }
      const auto kept = journal_->answer(one.line, one.status == 200, result_line(one.line, one.status, one.body));
      if (!kept) LOG(kError, "an answer of a batch is lost: {}", kept.error().message);
    }
  }
}

void BatchRunner::start(const BatchLine& line) {
  auto exchange = std::make_shared<LineExchange>(line, shared_);
  std::erase_if(exchanges_, [](const auto& old) { return old.expired(); });
  exchanges_.push_back(exchange);
  const auto matched = match(all_routes(), "POST", line.endpoint);
  if (!matched) return exchange->reply(404, "application/json", "{}", {});
  Identity identity{.tenant = line.tenant, .models = {}, .class_max = RequestClass::kBatch, .admin = false};
  RouteCall call{.exchange = exchange,
                 .identity = std::move(identity),
                 .parameters = {},
                 .record = std::make_shared<Record>(),
                 .route = matched->route};
  exchange->post(
      [server = &server_, call = std::move(call)]() mutable { call.route->handle(*server, std::move(call)); });
}

}  // namespace hearth::serve
