#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"

namespace hearth {
namespace {

using Clock = std::chrono::steady_clock;
double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// How many idle sequences are kept for the next turn of their conversation, beyond those running.
constexpr int kIdleMax = 2;
constexpr std::array<std::string_view, 5> kFinishNames{"end", "stop", "length", "context", "cancelled"};

size_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// The longest end of `text` that begins one of the stop texts: it has to wait for what follows.
size_t held_back(std::string_view text, std::span<const std::string> stops) {
  size_t longest = 0;
  for (const std::string& stop : stops)
    for (size_t n = std::min(stop.size() - 1, text.size()); n > longest; --n)
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
  return longest;
}

}  // namespace

std::string_view name(Finish finish) { return kFinishNames[static_cast<size_t>(finish)]; }

Result<void> check(const Request& request, int n_vocab, int context) {
  constexpr size_t kStopsMax = 16, kStopBytes = 1024;
  TRY(check(request.sampling));
  if (request.prompt.empty()) return fail(Code::kInvalidArgument, "the prompt is empty");
  if (request.prompt.size() >= static_cast<size_t>(context))
    return fail(Code::kLimit, "the prompt has {} tokens, the context {}; use a larger --context or a shorter prompt",
                request.prompt.size(), context);
  for (const Token token : request.prompt)
    if (token < 0 || token >= n_vocab)
      return fail(Code::kInvalidArgument, "the prompt holds token {}, the vocabulary has {}", token, n_vocab);
  if (request.stop.size() > kStopsMax)
    return fail(Code::kLimit, "{} stop texts, the limit is {}", request.stop.size(), kStopsMax);
  for (const std::string& stop : request.stop)
    if (stop.empty() || stop.size() > kStopBytes)
      return fail(Code::kInvalidArgument, "a stop text has {} bytes; use 1 to {}", stop.size(), kStopBytes);
  if (request.max_tokens < -1) return fail(Code::kInvalidArgument, "max_tokens is {}", request.max_tokens);
  return {};
}

// Pieces on their way from the engine thread to the consumer. A consumer that does not read gets longer pieces, not more: the queue
// is one piece that grows, bounded by the context.
struct Stream::Shared {
  std::mutex mutex;
  std::condition_variable ready;
  Piece pending;
  bool has_news = false;
  std::atomic<bool> cancelled{false};

  void push(std::string_view text, Token token) {
    const std::scoped_lock lock(mutex);
    pending.text += text;
    if (token != kNoToken) pending.tokens.push_back(token);
    has_news = true;
    ready.notify_one();
  }
  void end(Finish finish, const Usage& usage) {
    const std::scoped_lock lock(mutex);
    pending.done = true;
    pending.finish = finish;
    pending.usage = usage;
    has_news = true;
    ready.notify_one();
  }
  Piece take() {  // with the lock held
    Piece piece = pending;
    pending.text.clear();
    pending.tokens.clear();
    has_news = pending.done;
    return piece;
  }
};

Stream::~Stream() { cancel(); }
void Stream::cancel() {
  if (shared_) shared_->cancelled.store(true);
}
Piece Stream::next() {
  std::unique_lock lock(shared_->mutex);
  shared_->ready.wait(lock, [&] { return shared_->has_news; });
  return shared_->take();
}
std::optional<Piece> Stream::next_for(std::chrono::milliseconds timeout) {
  std::unique_lock lock(shared_->mutex);
  if (!shared_->ready.wait_for(lock, timeout, [&] { return shared_->has_news; })) return std::nullopt;
  return shared_->take();
}

// A request from admission to its end.
struct Engine::Active {
  Active(Request r, const Tokenizer& tokenizer, std::shared_ptr<Stream::Shared> s)
      : request(std::move(r)),
        shared(std::move(s)),
        sampler(request.sampling),
        detokenizer(tokenizer, request.special) {}
  Request request;
  std::shared_ptr<Stream::Shared> shared;
  Sampler sampler;
  Detokenizer detokenizer;
  SequenceId sequence = -1;
  std::vector<Token> tokens;  // prompt and answer
  std::string held;           // text that may be the beginning of a stop text
  Usage usage;
  Clock::time_point submitted = Clock::now(), admitted{}, first_token{};
  bool finished = false;

  [[nodiscard]] int waiting(const SequenceStore& store) const {
    return static_cast<int>(tokens.size()) - store.length(sequence);
  }
};

Engine::Engine(Model model, const EngineOptions& options) : model_(std::move(model)), options_(options) {}

Result<std::unique_ptr<Engine>> Engine::create(Model model, const EngineOptions& options) {
  constexpr int kParallelMax = 256;
  if (options.parallel < 1 || options.parallel > kParallelMax)
    return fail(Code::kInvalidArgument, "{} sequences at once; use 1 to {}", options.parallel, kParallelMax);
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  const Decoder& decoder = *engine->model_.decoder;
  const int64_t positions = int64_t{decoder.context()} * options.parallel;
  if (positions > limits::kContext)
    return fail(Code::kLimit, "{} sequences of {} positions; the limit is {} together", options.parallel,
                decoder.context(), limits::kContext);
  engine->store_ = TRY(SequenceStore::create(*engine->model_.backend, decoder.config(),
                                             {.kv_type = options.kv_type,
                                              .positions_max = static_cast<int>(positions),
                                              .sequences_max = options.parallel + kIdleMax}));
  engine->thread_ = std::jthread([raw = engine.get()](std::stop_token stop) { raw->work(std::move(stop)); });
  return engine;
}

Engine::~Engine() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  for (auto& active : active_) active->shared->end(Finish::kCancelled, active->usage);
  for (auto& waiting : queue_) waiting->shared->end(Finish::kCancelled, waiting->usage);
}

Result<std::unique_ptr<Stream>> Engine::submit(Request request) {
  TRY(check(request, model_.decoder->config().n_vocab, model_.decoder->context()));
  std::unique_ptr<Stream> stream(new Stream());
  stream->shared_ = std::make_shared<Stream::Shared>();
  auto active = std::make_unique<Active>(std::move(request), *model_.text.tokenizer, stream->shared_);
  active->tokens = active->request.prompt;
  active->usage.prompt_tokens = static_cast<int>(active->tokens.size());
  const std::scoped_lock lock(mutex_);
  if (static_cast<int>(queue_.size()) >= options_.queue_max)
    return fail(Code::kBusy, "{} requests wait already; try again later", queue_.size());
  queue_.push_back(std::move(active));
  wake_.notify_one();
  return stream;
}

void Engine::work(std::stop_token stop) {
  while (take_requests(stop)) {
    step();
    retire_finished();
  }
}

// Moves waiting requests into the free places; waits while there is nothing to do. False when the engine shuts down.
bool Engine::take_requests(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  if (active_.empty()) wake_.wait(lock, stop, [&] { return !queue_.empty(); });
  if (stop.stop_requested()) return false;
  while (!queue_.empty() && static_cast<int>(active_.size()) < options_.parallel) {
    auto active = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    if (auto admitted = admit(*active); admitted) {
      active_.push_back(std::move(active));
    } else {
      LOG(kError, "a request could not start: {}", admitted.error().message);
      active->shared->end(Finish::kCancelled, active->usage);
    }
    lock.lock();
  }
  return true;
}

bool Engine::evict_idle() {
  if (idle_.empty()) return false;
  store_->release(idle_.front().sequence);
  idle_.erase(idle_.begin());
  return true;
}

// Goes on from the idle sequence that has most of the prompt already, or opens a new one.
Result<void> Engine::admit(Active& active) {
  active.admitted = Clock::now();
  active.usage.queue_seconds = seconds(active.admitted - active.submitted);
  const std::span<const Token> prompt = active.tokens;
  size_t best = 0, best_length = 0;
  for (size_t i = 0; i < idle_.size(); ++i) {
    const size_t length = common_prefix(idle_[i].tokens, prompt);
    if (length > best_length) best = i, best_length = length;
  }
  if (best_length > 0) {
    active.sequence = idle_[best].sequence;
    idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(best));
    // At least the last token runs again, for its logits.
    active.usage.cached_tokens =
        store_->truncate(active.sequence, static_cast<int>(std::min(best_length, prompt.size() - 1)));
    return {};
  }
  auto sequence = store_->open();
  if (!sequence && evict_idle()) sequence = store_->open();
  if (!sequence) return std::unexpected(sequence.error());
  active.sequence = *sequence;
  return {};
}

void Engine::step() {
  std::vector<Runnable> runnables;
  for (auto& active : active_) {
    if (active->shared->cancelled.load() && !active->finished) finish(*active, Finish::kCancelled);
    const int waiting = active->finished ? 0 : active->waiting(*store_);
    runnables.push_back({active->sequence, waiting, waiting > 1 || active->usage.completion_tokens == 0});
  }
  std::vector<Token> tokens;
  std::vector<SequenceRows> rows;
  std::vector<std::pair<Active*, int>> ran;  // and how many rows
  for (const Share share : compose_step(runnables, model_.decoder->rows_max(), options_.prefill_max, turn_++)) {
    Active& active = *active_[static_cast<size_t>(share.index)];
    auto room = store_->reserve(active.sequence, share.count);
    while (!room && evict_idle()) room = store_->reserve(active.sequence, share.count);
    if (!room) {
      finish(active, Finish::kContext);
      continue;
    }
    const auto from = active.tokens.begin() + store_->length(active.sequence);
    rows.push_back(store_->rows(active.sequence, static_cast<int>(tokens.size()), share.count));
    tokens.insert(tokens.end(), from, from + share.count);
    ran.emplace_back(&active, share.count);
  }
  if (tokens.empty()) return;
  model_.decoder->run({.tokens = tokens, .sequences = rows}, *store_);
  const auto n_vocab = static_cast<size_t>(model_.decoder->config().n_vocab);
  for (size_t i = 0; i < ran.size(); ++i) {
    auto& [active, count] = ran[i];
    store_->advance(active->sequence, count);
    if (active->waiting(*store_) > 0) continue;  // more of the prompt is to come
    if (active->usage.completion_tokens == 0) {
      active->first_token = Clock::now();
      active->usage.prefill_seconds = seconds(active->first_token - active->admitted);
      if (active->request.max_tokens == 0) {
        finish(*active, Finish::kLength);
        continue;
      }
    }
    const int32_t last_row = rows[i].first_row + count - 1;
    logits_.resize(n_vocab);
    model_.decoder->logits({&last_row, 1}, logits_);
    take_token(*active, active->sampler.sample(logits_, active->tokens, static_cast<int64_t>(active->tokens.size())));
  }
}

// Adds a sampled token to the answer and applies the rules that end it.
void Engine::take_token(Active& active, Token token) {
  ++active.usage.completion_tokens;
  if (model_.text.tokenizer->ends_generation(token) && !active.request.ignore_eos) {
    if (active.request.special) active.held += model_.text.tokenizer->bytes(token, true, false);
    return finish(active, Finish::kEnd);
  }
  active.tokens.push_back(token);
  active.held += active.detokenizer.push(token);
  size_t cut = std::string::npos;
  for (const std::string& stop : active.request.stop) cut = std::min(cut, active.held.find(stop));
  if (cut != std::string::npos) {
    active.held.resize(cut);
    active.shared->push("", token);
    active.detokenizer = Detokenizer(*model_.text.tokenizer, active.request.special);  // nothing may follow
    return finish(active, Finish::kStop);
  }
  const size_t ready = active.held.size() - held_back(active.held, active.request.stop);
  active.shared->push(std::string_view(active.held).substr(0, ready), token);
  active.held.erase(0, ready);
  if (active.usage.completion_tokens == active.request.max_tokens) return finish(active, Finish::kLength);
  if (static_cast<int>(active.tokens.size()) >= model_.decoder->context()) return finish(active, Finish::kContext);
}

void Engine::finish(Active& active, Finish why) {
  active.finished = true;
  active.usage.decode_seconds = active.usage.completion_tokens == 0 ? 0.0 : seconds(Clock::now() - active.first_token);
  if (why != Finish::kStop) active.held += active.detokenizer.finish();
  if (!active.held.empty()) active.shared->push(active.held, kNoToken);
  active.shared->end(why, active.usage);
}

// Finished sequences stay for a while: the next turn of the same conversation begins with their tokens.
void Engine::retire_finished() {
  for (auto& active : active_) {
    if (!active->finished) continue;
    while (static_cast<int>(idle_.size()) >= kIdleMax) evict_idle();
    active->tokens.resize(static_cast<size_t>(store_->length(active->sequence)));
    idle_.push_back({active->sequence, std::move(active->tokens)});
  }
  std::erase_if(active_, [](const auto& active) { return active->finished; });
}

}  // namespace hearth
