#include "serve/generation.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <boost/json/serialize.hpp>
#include <random>
#include <utility>

#include "serve/error.h"
#include "serve/openai_answer.h"
#include "serve/stream_place.h"

namespace hearth::serve {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

// What the tokens that end an answer look like, where control tokens are shown.
std::vector<std::string> end_texts(const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  const TokenizerData& data = tokenizer.data();
  std::vector<Token> ends = data.end_of_generation;
  ends.insert(ends.end(), {data.eos, data.eot});
  for (const Token end : ends)
    if (std::string text = tokenizer.bytes(end, true, false); !text.empty()) texts.push_back(std::move(text));
  return texts;
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// Its owner is the exchange, by on_gone, until the answer has gone out or the client has gone. All but cancel() runs on the
// exchange's jobs, one after the other.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(RouteCall call, Generate what) : call_(std::move(call)), what_(std::move(what)) {}

  void start() {
    if (const auto submitted = submit(); !submitted) {
      streams_.clear();
      return reply_error(call_, submitted.error());
    }
    note_request();
    call_.exchange->on_gone([self = shared_from_this(), exchange = std::weak_ptr(call_.exchange)]() mutable {
      if (const auto lane = exchange.lock()) lane->post([self = std::move(self)] { self->release(); });
    });
    // Told with a lock of the stream held, so nothing may be let go here.
    for (const auto& stream : streams_)
      stream->on_news([exchange = call_.exchange, self = weak_from_this()] {
        exchange->post([self] {
          if (const auto generation = self.lock()) generation->drain();
        });
      });
  }

 private:
  // The adapter that a request names by its place. A key that may not use it finds none there.
  Result<void> choose_adapter(int place) {
    const auto& adapters = what_.acquired.model->adapters;
    const bool there = place >= 0 && static_cast<size_t>(place) < adapters.size();
    if (place >= 0 && (!there || !call_.identity.may_use(adapters[static_cast<size_t>(place)].first)))
      return fail(Code::kInvalidArgument, "lora: there is no adapter {}; this model has {}", place, adapters.size());
    what_.acquired.adapter = there ? adapters[static_cast<size_t>(place)].second : nullptr;
    return {};
  }

  Result<void> submit() {
    AnswerOptions& options = what_.options;
    if (options.lora) TRY(choose_adapter(*options.lora));
    const AnswerOrigin* origin = call_.origin.get();
    if (!options.seed_given) options.sampling.seed = origin ? origin->seed : random_seed();
    if (origin && origin->deadline_seconds) options.deadline_seconds = origin->deadline_seconds;
    if (origin)
      place_ =
          TRY(StreamPlace::create(options.n * static_cast<int>(what_.prompts.size()), origin->told, origin->numbered));
    const Tokenizer& tokenizer = *what_.acquired.text().tokenizer;
    for (const ChatPrompt& prompt : what_.prompts) {
      Request request = engine_request(call_, what_.acquired, options, prompt);
      for (int i = 0; i < options.n; ++i) {
        const auto index = static_cast<int>(readers_.size());
        readers_.emplace_back(prompt.form, index, prompt.special ? end_texts(tokenizer) : std::vector<std::string>(),
                              what_.id);
        streams_.push_back(TRY(what_.acquired.model->engine->submit(request)));
        ++request.sampling.seed;  // answers to one prompt differ
      }
    }
    done_.resize(streams_.size());
    answer_.choices.resize(streams_.size());
    return {};
  }

  void note_request() {
    Record& record = *call_.record;
    record.streamed = what_.options.stream;
    record.max_tokens = what_.options.max_tokens;
    record.temperature = what_.options.sampling.temperature;
    record.top_p = what_.options.sampling.top_p;
    // What it costs and how it ended if the client goes before the end; note_answer has the figures of a whole answer.
    record.finish = "abort";
    for (const ChatPrompt& prompt : what_.prompts) record.prompt_tokens += static_cast<int>(prompt.tokens.size());
  }

  void drain() {
    std::string bytes;
    for (size_t i = 0; i < streams_.size() && !failed_; ++i) {
      while (!done_[i] && !failed_) {
        const std::optional<Piece> piece = streams_[i]->next_for(std::chrono::milliseconds(0));
        if (!piece) break;
        if (!place_) take(i, *piece, bytes);
        if (place_)  // events do not depend on who waited for whom
          for (const Piece& part : split(*piece)) take(i, part, bytes);
      }
    }
    if (!streams_.empty()) deliver(std::move(bytes));
  }

  void take(size_t index, const Piece& piece, std::string& bytes) {
    Record& record = *call_.record;
    if (!piece.tokens.empty() && !record.first_token_seconds)
      record.first_token_seconds = seconds_since(record.arrived);
    record.completion_tokens += static_cast<int>(piece.tokens.size());
    if (piece.done) end_choice(index, piece);
    if (failed_) return;
    for (const Event& event : readers_[index].read(piece)) {
      collect(event, answer_.choices[index]);
      if (!what_.options.stream) continue;
      if (!std::exchange(opened_, true)) {  // numbers its events: before the first
        const std::string begin = what_.writer->begin();
        bytes += place_ ? place_->pass_other(begin) : begin;
      }
      const std::string written = what_.writer->event(event);
      bytes += place_ ? place_->pass(static_cast<int>(index), written) : written;
    }
  }

  void end_choice(size_t index, const Piece& piece) {
    done_[index] = true;
    failed_ = piece.finish == Finish::kCancelled;
    Usage& usage = answer_.usage;
    if (index % static_cast<size_t>(what_.options.n) == 0) {
      usage.prompt_tokens += piece.usage.prompt_tokens;
      usage.cached_tokens += piece.usage.cached_tokens;
    }
    usage.completion_tokens += piece.usage.completion_tokens;
    usage.drafted_tokens += piece.usage.drafted_tokens;
    usage.accepted_tokens += piece.usage.accepted_tokens;
    usage.bits_lowered |= piece.usage.bits_lowered;
    usage.row_bits = std::min(usage.row_bits, piece.usage.row_bits);
    usage.exited_tokens += piece.usage.exited_tokens;
    usage.exit_layers = piece.usage.exit_layers, usage.exit_kld_max = piece.usage.exit_kld_max;
    if (piece.usage.joules >= 0) {
      usage.joules_measured = piece.usage.joules_measured && (usage.joules < 0 || usage.joules_measured);
      usage.joules = std::max(usage.joules, 0.0) + piece.usage.joules;
    }
    usage.queue_seconds = std::max(usage.queue_seconds, piece.usage.queue_seconds);
    usage.prefill_seconds = std::max(usage.prefill_seconds, piece.usage.prefill_seconds);
    usage.decode_seconds = std::max(usage.decode_seconds, piece.usage.decode_seconds);
  }

  void deliver(std::string bytes) {
    const bool complete = std::ranges::all_of(done_, std::identity());
    const bool stream = what_.options.stream;
    if (failed_ && !begun_) return fail_whole();
    if (stream && !begun_ && (complete || !bytes.empty())) {  // an answer may be empty, and ends all the same
      begun_ = true;
      call_.exchange->begin(200, what_.writer->stream_type(),
                            {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
    }
    if (failed_) bytes += what_.writer->failed({Code::kCancelled, "the server shuts down"});
    if (complete && !failed_) note_answer();
    if (stream && complete && !failed_) {
      const std::string end = what_.writer->end(answer_);
      bytes += place_ ? place_->pass_other(end) : end;
    }
    const bool lost = stream && !bytes.empty() && !call_.exchange->write(std::move(bytes));
    if (!complete && !failed_ && !lost) return;
    std::string whole = stream ? std::string() : boost::json::serialize(what_.writer->whole(answer_));
    release();  // before the answer is complete: the client may then count on the model being free
    if (stream) return call_.exchange->end();
    call_.exchange->reply(200, "application/json", std::move(whole));
  }

  void fail_whole() {
    release();
    reply_error(call_, {Code::kCancelled, "the server shuts down"});
  }

  void note_answer() {
    answer_.load_seconds = what_.acquired.load_seconds;
    answer_.total_seconds = seconds_since(call_.record->arrived);
    Record& record = *call_.record;
    const Usage& usage = answer_.usage;
    record.finish = openai_finish(answer_.choices[0].finish, !answer_.choices[0].calls.empty());
    record.prompt_tokens = usage.prompt_tokens, record.cached_tokens = usage.cached_tokens;
    record.completion_tokens = usage.completion_tokens;
    record.queue_seconds = usage.queue_seconds;
    record.joules = usage.joules;
    record.prefill_seconds = usage.prefill_seconds, record.decode_seconds = usage.decode_seconds;
  }

  // Ends what still runs, and lets the model go.
  void release() {
    streams_.clear();
    done_.clear();
    what_.acquired.model.reset();
  }

  RouteCall call_;
  Generate what_;
  std::vector<EventReader> readers_;
  std::optional<StreamPlace> place_;  // of an answer that may be gone on with elsewhere
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<bool> done_;
  Answer answer_;
  bool opened_ = false, begun_ = false, failed_ = false;
};

}  // namespace

Result<std::string> allowed_model(Server& server, const RouteCall& call, std::string name) {
  if (name.empty()) name = server.options().default_model;
  if (name.empty()) return fail(Code::kInvalidArgument, "model: is missing");
  if (!call.identity.may_use(name)) return fail(Code::kNotFound, "model '{}' not found", name);
  return name;
}

namespace {

// The model that an adapter is for: one in memory, or the only one of its family.
Result<std::string> base_of_adapter(Server& server, const std::string& name) {
  for (const LoadedState& state : server.catalog().loaded())
    if (state.model->adapter(name)) return state.model->name;
  const auto declared = server.catalog().adapters().find(name);
  std::vector<std::string> bases;
  if (declared != server.catalog().adapters().end())
    for (const ListedModel& model : server.catalog().list())
      if (model.details.family == declared->second) bases.push_back(model.source.name);
  if (bases.empty()) return fail(Code::kNotFound, "model '{}' not found", name);
  if (bases.size() == 1) return bases.front();
  return fail(Code::kInvalidArgument, "model: '{}' is an adapter for one of {}; ask for its model first", name,
              fmt::join(bases, ", "));
}

}  // namespace

Result<Acquired> acquire_any(Server& server, const RouteCall& call, std::string& name,
                             std::optional<KeepAlive> keep_alive) {
  name = TRY(allowed_model(server, call, std::move(name)));
  const Clock::time_point begin = Clock::now();
  Result<std::shared_ptr<LoadedModel>> model;
  call.exchange->run_waiting([&] { model = server.catalog().acquire(name, keep_alive); });
  Acquired acquired;
  if (!model && model.error().code == Code::kNotFound) {
    const std::string base = TRY(base_of_adapter(server, name));
    call.exchange->run_waiting([&] { model = server.catalog().acquire(base, keep_alive); });
    if (!model) return std::unexpected(model.error());
    acquired.adapter = (*model)->adapter(name);
    if (!acquired.adapter) return fail(Code::kNotFound, "model '{}' not found", name);
  }
  if (!model) return std::unexpected(model.error());
  acquired.model = std::move(*model);
  acquired.load_seconds = seconds_since(begin);
  call.record->model = acquired.model->name;
  return acquired;
}

Result<Acquired> acquire(Server& server, const RouteCall& call, std::string& name,
                         std::optional<KeepAlive> keep_alive) {
  Acquired acquired = TRY(acquire_any(server, call, name, keep_alive));
  if (!acquired.model->engine) return fail(Code::kInvalidArgument, "model: '{}' does not generate text", name);
  return acquired;
}

Result<Acquired> acquire_to_answer(Server& server, const RouteCall& call, std::string& name,
                                   std::optional<KeepAlive> keep_alive) {
  const std::string& smaller = server.options().smaller_model;
  if (smaller.empty() || !server.options().wants_smaller_model()) return acquire(server, call, name, keep_alive);
  std::string asked = TRY(allowed_model(server, call, name));
  const bool adapter = !server.catalog().library().find(asked);
  if (asked == smaller || adapter || !call.identity.may_use(smaller)) return acquire(server, call, name, keep_alive);
  name = smaller;
  Acquired acquired = TRY(acquire(server, call, name));
  call.exchange->add_header("Hearth-Instead-Of", std::move(asked));
  return acquired;
}

Result<std::shared_ptr<LoadedModel>> acquire_encoder(Server& server, const RouteCall& call, std::string& name,
                                                     std::optional<KeepAlive> keep_alive) {
  Acquired acquired = TRY(acquire_any(server, call, name, keep_alive));
  if (!acquired.model->encoder)
    return fail(Code::kInvalidArgument, "model: '{}' makes no embeddings; use one of BERT's kind, as all-minilm-l6-v2",
                name);
  return std::move(acquired.model);
}

Request engine_request(const RouteCall& call, const Acquired& acquired, const AnswerOptions& options,
                       const ChatPrompt& prompt) {
  Request request;
  request.prompt = prompt.tokens;
  request.sampling = options.sampling;
  request.max_tokens = options.max_tokens;
  request.stop = options.stop;
  request.special = prompt.special;
  request.ignore_eos = options.ignore_eos;
  request.logprobs = options.logprobs;
  request.prompt_logprobs = options.prompt_logprobs;
  request.grammar = prompt.grammar;
  request.adapter = acquired.adapter;
  request.tenant = call.identity.tenant;
  request.request_class = std::max(options.request_class, call.identity.class_max);
  request.priority = options.priority;
  request.deadline_seconds = options.deadline_seconds;
  request.drafts_max = options.drafts_max;
  request.exit_kld = options.exit_kld;
  if (!options.prediction.empty()) request.prediction = acquired.text().tokenizer->encode(options.prediction, {});
  return request;
}

void generate(RouteCall call, Generate what) {
  std::make_shared<Generation>(std::move(call), std::move(what))->start();
}

}  // namespace hearth::serve
