#include "gateway/gateway.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "base/log.h"
#include "gateway/sample.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

constexpr size_t kInboxMax = 200'000, kQuestionsMax = 16;
constexpr milliseconds kTick{100};

Moment now() {
  using std::chrono::duration_cast;
  return {duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count(),
          duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()};
}

}  // namespace

Result<Site> Site::load(const std::filesystem::path& file) {
  Profile profile = TRY(Profile::load(file));
  Rules rules = TRY(read_rules(profile.root, profile.signals));
  TRY(profile.root.finish());
  return Site{std::move(profile), std::move(rules)};
}

Result<std::unique_ptr<Gateway>> Gateway::start(GatewayOptions options) {
  std::error_code error;
  std::filesystem::create_directories(options.folder, error);
  if (error) return fail(Code::kIo, "{}: {}", options.folder.string(), error.message());
  std::unique_ptr<Gateway> gateway(new Gateway(std::move(options)));
  Site site = TRY(Site::load(gateway->options_.profile));
  gateway->audit_ = TRY(Audit::open(gateway->options_.folder));
  gateway->queue_ = TRY(RecordQueue::open(gateway->options_.folder / "queue.db", {site.rules.queue_bytes}));
  gateway->running_ = gateway->make(std::move(site));
  TRY(gateway->start_lines(gateway->running_));
  gateway->worker_ = std::jthread([self = gateway.get()](const std::stop_token& stop) { self->work(stop); });
  if (!gateway->options_.server.empty())
    gateway->asker_ = std::jthread([self = gateway.get()](const std::stop_token& stop) { self->ask(stop); });
  return gateway;
}

Gateway::~Gateway() {
  asker_.request_stop(), worker_.request_stop();
  questions_news_.notify_all(), inbox_news_.notify_all();
  if (worker_.joinable()) worker_.join();
  if (asker_.joinable()) asker_.join();
  for (const auto& line : running_.lines) line->stop();
}

Gateway::Running Gateway::make(Site site) {
  Running made;
  const auto newest_only = site.rules.newest_only;
  const int drain = site.rules.drain_per_second;
  Pipeline::Parts parts;
  parts.signals = std::move(site.profile.signals), parts.rules = std::move(site.rules);
  parts.audit = audit_.get(), parts.metrics = &metrics_, parts.model = !options_.server.empty();
  made.pipeline = std::make_unique<Pipeline>(std::move(parts));
  if (options_.more)
    for (Profile::Part& part : options_.more(made.pipeline->signals()))
      site.profile.adapters.push_back(std::move(part));
  for (Profile::Part& part : site.profile.adapters) {
    AdapterLine::Options line;
    line.signals = made.pipeline->signals(), line.queue = queue_.get(), line.drain_per_second = drain;
    line.history = std::ranges::find(newest_only, part.name) == newest_only.end();
    line.done = [this](int64_t act, Result<> result) { enqueue(Done{act, std::move(result)}); };
    made.lines.push_back(std::make_unique<AdapterLine>(std::move(part), std::move(line)));
  }
  return made;
}

Result<void> Gateway::start_lines(Running& running) {
  for (const auto& line : running.lines)
    if (auto started = line->start(inputs()); !started) {
      for (const auto& each : running.lines) each->stop();
      return started;
    }
  return {};
}

Result<void> Gateway::reload() {
  auto site = Site::load(options_.profile);
  if (!site) return std::unexpected(site.error());
  Running next = make(std::move(*site));
  const std::scoped_lock lock(mutex_);
  for (const auto& line : running_.lines) line->stop();
  next.pipeline->take_over(*running_.pipeline);
  {
    // Ids of signals are those of the profile that goes.
    const std::scoped_lock inbox(inbox_mutex_);
    inbox_.clear();
  }
  if (auto started = start_lines(next); !started) {
    for (const auto& line : running_.lines)
      if (const auto again = line->start(inputs()); !again) LOG(kError, "{}", again.error().message);
    return started;
  }
  running_ = std::move(next);
  tried_.clear();
  pending_shown_ = 0;
  audit_->add(now().wall_ms, "reload", json::serialize(json::object{{"profile", options_.profile.string()}}));
  return {};
}

GatewayInputs Gateway::inputs() {
  return {
      [this](const Sample& sample) { enqueue(sample); },
      [this](const Write& write, std::string_view source) { enqueue(Wanted{write, std::string(source)}); },
      [this](std::string_view token, std::string_view source) {
        enqueue(Confirmed{std::string(token), std::string(source)});
      },
      [this](std::span<const SignalId> signals, bool away) { enqueue(Away{{signals.begin(), signals.end()}, away}); }};
}

// Samples may be dropped when more come than can be looked at; what was done and answered may not.
void Gateway::enqueue(Input input) {
  {
    const std::scoped_lock lock(inbox_mutex_);
    if (inbox_.size() >= kInboxMax && (std::holds_alternative<Sample>(input) || std::holds_alternative<Wanted>(input) ||
                                       std::holds_alternative<Confirmed>(input))) {
      ++inbox_dropped_;
      return;
    }
    inbox_.push_back(std::move(input));
  }
  inbox_news_.notify_one();
}

void Gateway::work(const std::stop_token& stop) {
  std::vector<Input> batch;
  int64_t next_tick = 0;
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(inbox_mutex_);
      inbox_news_.wait_for(lock, stop, kTick, [&] { return !inbox_.empty(); });
    }
    const std::scoped_lock lock(mutex_);
    {
      const std::scoped_lock inbox(inbox_mutex_);
      batch.clear();
      batch.swap(inbox_);
    }
    const Moment moment = now();
    Out out;
    for (Input& input : batch) handle(input, moment, out);
    if (moment.steady_ms >= next_tick) {
      running_.pipeline->tick(moment, out);
      next_tick = moment.steady_ms + kTick.count();
    }
    carry_out(out);
  }
}

void Gateway::handle(Input& input, const Moment& moment, Out& out) {
  Pipeline& pipeline = *running_.pipeline;
  if (const auto* sample = std::get_if<Sample>(&input)) pipeline.sample(*sample, moment, out);
  if (const auto* away = std::get_if<Away>(&input)) pipeline.away(away->signals, away->away, moment, out);
  if (const auto* wanted = std::get_if<Wanted>(&input)) pipeline.request(wanted->write, wanted->source, moment, out);
  if (const auto* confirmed = std::get_if<Confirmed>(&input))  // what came of it is in the audit
    (void)pipeline.confirm(confirmed->token, confirmed->source, moment, out);
  if (const auto* answer = std::get_if<Answer>(&input)) pipeline.answer(answer->decision, answer->choice, moment, out);
  if (const auto* reason = std::get_if<Reason>(&input)) pipeline.reason(reason->decision, reason->text, moment);
  if (auto* done = std::get_if<Done>(&input)) finish(std::move(*done), moment);
}

// The audit is on disk before a device is told. Where it cannot be, only interlocks go on.
void Gateway::carry_out(Out& out) {
  const auto audited = audit_->flush();
  if (!audited) LOG(kError, "{}", audited.error().message);
  for (const Act& act : out.acts) {
    if (!audited && !act.urgent) {
      running_.pipeline->done(act.id, fail(Code::kIo, "not done: {}", audited.error().message), now());
      continue;
    }
    tried_[act.id] = {running_.lines.size(), fail(Code::kNotFound, "no adapter writes this signal")};
    for (const auto& line : running_.lines) line->act(act);
    if (running_.lines.empty()) finish({act.id, fail(Code::kNotFound, "there is no adapter")}, now());
  }
  for (Question& question : out.questions) {
    const std::scoped_lock lock(questions_mutex_);
    if (questions_.size() >= kQuestionsMax)
      enqueue(Answer{question.decision, fail(Code::kBusy, "{} questions wait already", questions_.size())});
    else
      questions_.push_back(std::move(question));
  }
  if (!out.questions.empty()) questions_news_.notify_one();
  for (const Sample& sample : out.publish)
    for (const auto& line : running_.lines) line->publish(sample);
  if (pending_shown_ == running_.pipeline->pending_changes()) return;
  pending_shown_ = running_.pipeline->pending_changes();
  const std::vector<Pending> pending = running_.pipeline->pending();
  for (const auto& line : running_.lines) line->show_pending(pending);
}

// Every line was asked; the one whose signal it is says something else than kNotFound.
void Gateway::finish(Done done, const Moment& moment) {
  const auto found = tried_.find(done.act);
  if (found == tried_.end()) return;
  Tried& tried = found->second;
  if (tried.left > 0) --tried.left;
  const bool of_it = done.result || done.result.error().code != Code::kNotFound;
  if (of_it) tried.result = std::move(done.result);
  if (!of_it && tried.left > 0) return;
  running_.pipeline->done(done.act, tried.result, moment);
  tried_.erase(found);
}

// Choices come before reasons, which nobody waits for.
void Gateway::ask(const std::stop_token& stop) {
  std::deque<std::pair<Question, std::string>> chosen;
  std::deque<Question> ahead;
  look([&](const Pipeline& pipeline, const Moment&) { ahead = pipeline.questions_ahead(); });
  for (;;) {
    std::optional<Question> question;
    {
      std::unique_lock lock(questions_mutex_);
      if (chosen.empty() && ahead.empty() && !questions_news_.wait(lock, stop, [&] { return !questions_.empty(); }))
        return;
      if (stop.stop_requested()) return;
      if (!questions_.empty()) {
        question = std::move(questions_.front());
        questions_.pop_front();
      }
    }
    if (question) {
      auto choice = chooser_.choose(*question);
      if (question->reason && choice && !choice->label.empty() && chosen.size() < kQuestionsMax)
        chosen.emplace_back(*question, choice->label);
      enqueue(Answer{question->decision, std::move(choice)});
      continue;
    }
    if (chosen.empty()) {
      // If the server is not there yet, the first real question sees to it.
      if (chooser_.prepare(ahead.front()).value_or(true)) ahead.pop_front();
      continue;
    }
    const auto [about, label] = std::move(chosen.front());
    chosen.pop_front();
    if (auto text = chooser_.reason(about, label); text) enqueue(Reason{about.decision, std::move(*text)});
  }
}

Result<void> Gateway::confirm(std::string_view token, std::string_view who) {
  const std::scoped_lock lock(mutex_);
  Out out;
  auto confirmed = running_.pipeline->confirm(token, who, now(), out);
  carry_out(out);
  return confirmed;
}

std::string Gateway::said(std::string_view text, std::string_view who) {
  const std::scoped_lock lock(mutex_);
  Out out;
  std::string answer = running_.pipeline->said(text, who, now(), out);
  carry_out(out);
  return answer;
}

void Gateway::look(const std::function<void(const Pipeline&, const Moment&)>& see) const {
  const std::scoped_lock lock(mutex_);
  see(*running_.pipeline, now());
}

json::object Gateway::state() const {
  json::array adapters;
  json::object counts;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& line : running_.lines) {
      const AdapterLine::Figures figures = line->figures();
      adapters.push_back({{"name", line->name()},
                          {"type", line->type()},
                          {"connected", figures.adapter.connected},
                          {"state", figures.adapter.state},
                          {"received", figures.adapter.received},
                          {"sent", figures.adapter.sent},
                          {"refused", figures.adapter.refused},
                          {"reconnects", figures.adapter.reconnects},
                          {"waiting", figures.waiting},
                          {"lost", figures.lost}});
    }
    counts = {{"signals", running_.pipeline->signals().size()}, {"pending", running_.pipeline->pending().size()}};
  }
  const QueueFigures queue = queue_->figures();
  json::array classes;
  for (size_t i = 0; i < queue.records.size(); ++i)
    classes.push_back({{"class", name_of(static_cast<RecordClass>(i))},
                       {"records", queue.records[i]},
                       {"bytes", queue.bytes[i]},
                       {"dropped", queue.dropped[i]}});
  counts["adapters"] = std::move(adapters), counts["queue"] = std::move(classes);
  return counts;
}

std::string Gateway::metrics() const {
  Exposition out;
  metrics_.write(out);
  {
    const std::scoped_lock lock(mutex_);
    std::array<double, 4> by_quality{};
    for (const Current& current : running_.pipeline->values()) ++by_quality[static_cast<size_t>(current.quality)];
    out.family("hearth_gateway_signals", "gauge", "Signals by what is thought of their newest value");
    for (size_t i = 0; i < by_quality.size(); ++i)
      out.sample({{"quality", name_of(static_cast<Quality>(i))}}, by_quality[i]);
    out.family("hearth_gateway_pending", "gauge", "Actions that wait for confirmation");
    out.sample({}, static_cast<double>(running_.pipeline->pending().size()));
    struct Column {
      std::string_view name, type, help;
      double (*value)(const AdapterLine::Figures&);
    };
    constexpr std::array kColumns{
        Column{"hearth_gateway_adapter_up", "gauge", "1 while an adapter reaches its other side",
               [](const AdapterLine::Figures& f) { return f.adapter.connected ? 1.0 : 0.0; }},
        Column{"hearth_gateway_adapter_received_total", "counter", "Samples from an adapter",
               [](const AdapterLine::Figures& f) { return static_cast<double>(f.adapter.received); }},
        Column{"hearth_gateway_adapter_sent_total", "counter", "Samples and writes through an adapter",
               [](const AdapterLine::Figures& f) { return static_cast<double>(f.adapter.sent); }},
        Column{"hearth_gateway_adapter_refused_total", "counter", "Malformed or unknown messages",
               [](const AdapterLine::Figures& f) { return static_cast<double>(f.adapter.refused); }},
        Column{"hearth_gateway_adapter_reconnects_total", "counter", "Times a connection came back",
               [](const AdapterLine::Figures& f) { return static_cast<double>(f.adapter.reconnects); }},
        Column{"hearth_gateway_adapter_waiting", "gauge", "Samples on disk for an adapter",
               [](const AdapterLine::Figures& f) { return static_cast<double>(f.waiting); }}};
    std::vector<AdapterLine::Figures> figures;
    for (const auto& line : running_.lines) figures.push_back(line->figures());
    for (const Column& column : kColumns) {
      out.family(column.name, column.type, column.help);
      for (size_t i = 0; i < figures.size(); ++i)
        out.sample({{"adapter", running_.lines[i]->name()}}, column.value(figures[i]));
    }
  }
  const QueueFigures queue = queue_->figures();
  out.family("hearth_gateway_queue_bytes", "gauge", "Bytes of waiting records");
  for (size_t i = 0; i < 3; ++i)
    out.sample({{"class", name_of(static_cast<RecordClass>(i))}}, static_cast<double>(queue.bytes[i]));
  out.family("hearth_gateway_queue_dropped_total", "counter", "Records that were dropped for room");
  for (size_t i = 0; i < 3; ++i)
    out.sample({{"class", name_of(static_cast<RecordClass>(i))}}, static_cast<double>(queue.dropped[i]));
  const std::scoped_lock inbox(inbox_mutex_);
  out.family("hearth_gateway_inbox_dropped_total", "counter", "Samples that came faster than they were looked at");
  out.sample({}, static_cast<double>(inbox_dropped_));
  return out.text();
}

}  // namespace hearth::gateway
