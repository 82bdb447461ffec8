#include "engine/engine.h"

#include <algorithm>

#include "base/limits.h"
#include "engine/engine_active.h"

namespace hearth {
namespace {

// Sequences beyond those running and kept: parked ones, and the candidates of a request that is scored.
constexpr int kSpareSequences = 16;

}  // namespace

Engine::Engine(Model model, const EngineOptions& options)
    : model_(std::move(model)), options_(options), precision_(model_.decoder->precision()) {}

Result<std::unique_ptr<Engine>> Engine::create(Model model, const EngineOptions& options, std::optional<Model> draft) {
  constexpr int kParallelMax = 256;
  if (options.parallel < 1 || options.parallel > kParallelMax)
    return fail(Code::kInvalidArgument, "{} sequences at once; use 1 to {}", options.parallel, kParallelMax);
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  if (options.head && (options.exits || options.may_switch_precision))
    return fail(Code::kInvalidArgument, "a head elsewhere does not go together with early exit or several precisions");
  if (options.drafts_max < -1 || options.drafts_max > kDraftMax)
    return fail(Code::kInvalidArgument, "{} drafted tokens a step; use 0 to {}, or -1 for as many as pay",
                options.drafts_max, kDraftMax);
  const Decoder& decoder = *engine->model_.decoder;
  Chain* const chain = options.chain.get();
  const int64_t positions = int64_t{decoder.context()} * options.parallel;
  if (positions > limits::kContext)
    return fail(Code::kLimit, "{} sequences of {} positions; the limit is {} together", options.parallel,
                decoder.context(), limits::kContext);
  const SequenceOptions sequences{.kv_type = options.kv_type,
                                  .positions_max = static_cast<int>(positions),
                                  .sequences_max = 2 * options.parallel + options.kept_max + kSpareSequences};
  engine->store_ =
      TRY(SequenceStore::create(*engine->model_.backend, chain ? chain->config() : decoder.config(), sequences));
  if (options.kv_pages_max > 0)
    engine->store_->limit_pages(std::max(options.kv_pages_max, SequenceStore::pages_for(decoder.context())));
  if (chain) {
    engine->options_.state_cache = nullptr;
    engine->store_->record(&engine->ops_);
    TRY(chain->start(sequences, decoder.context()));
  }
  TRY(engine->use_exits());
  if (draft) {
    auto made = TRY(DraftModel::create(std::move(*draft), engine->model_));
    engine->draft_bytes_ = made->memory_bytes();
    engine->guesser_ = std::move(made);
  }
  engine->publish_stats(0);
  engine->thread_ = std::jthread([raw = engine.get()](std::stop_token stop) { raw->work(stop); });
  return engine;
}

Engine::~Engine() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  for (const Kept& kept : kept_)
    if (kept.arriving) kept.arriving->wait();
  if (store_) settle_transfers();
  while (release_kept(0)) continue;
  for (const Written& written : written_) written.transfer->wait();
  for (const auto* list : {&active_, &parked_})
    for (const auto& active : *list) active->shared->end(Finish::kCancelled, active->usage);
  for (const auto& waiting : queue_) waiting->shared->end(Finish::kCancelled, waiting->usage);
}

Result<std::unique_ptr<Stream>> Engine::submit(Request request) {
  TRY(check(request, model_.decoder->config().n_vocab, model_.decoder->context()));
  if (request.adapter && (options_.chain || !request.adapter->fits(*model_.decoder)))
    return fail(Code::kInvalidArgument, "adapter: it was loaded for another model");
  if (options_.pacer) TRY(options_.pacer->admit(request));
  auto shared = std::make_shared<Stream::Shared>();
  auto active = std::make_unique<Active>(std::move(request), *model_.text.tokenizer, shared);
  TRY(choose_exit(*active));
  if (active->request.grammar) {
    std::call_once(masks_made_, [&] { masks_ = std::make_unique<TokenMasks>(*model_.text.tokenizer); });
    active->constraint.emplace(active->request.grammar, *masks_);
  }
  const std::scoped_lock lock(mutex_);
  if (const auto most = stats_.kv_positions_max; static_cast<int64_t>(active->tokens.size()) >= most) {
    ++stats_.refused;
    return fail(Code::kLimit, "{} tokens of prompt; since memory was lowered there is room for {} positions",
                active->tokens.size(), most);
  }
  if (static_cast<int>(queue_.size()) >= options_.queue_max) {
    ++stats_.refused;
    return fail(Code::kBusy, "{} requests wait already; try again later", queue_.size());
  }
  if (auto in_time = check_deadline(active->request); !in_time) {
    ++stats_.refused;
    return std::unexpected(in_time.error());
  }
  active->arrival = ++arrivals_;
  enter_tenant(active->request.tenant);
  queue_.push_back(std::move(active));
  news_ = true;
  ++stats_.requests;
  wake_.notify_one();
  return std::make_unique<Stream>(std::move(shared));
}

// With the lock held. What is ahead of the request, and then itself; the first requests cannot be judged.
Result<void> Engine::check_deadline(const Request& request) const {
  if (!request.deadline_seconds || stats_.prompt_row_seconds == 0) return {};
  int64_t rows = static_cast<int64_t>(request.prompt.size());
  for (size_t c = 0; c <= static_cast<size_t>(request.request_class); ++c) rows += rows_ahead_[c];
  for (const auto& waiting : queue_)
    if (waiting->request.request_class <= request.request_class) rows += static_cast<int64_t>(waiting->tokens.size());
  const double tokens = request.candidates.empty() ? std::max(1, request.max_tokens) : 1;
  const double estimate = static_cast<double>(rows) * stats_.prompt_row_seconds + tokens * stats_.decode_step_seconds;
  if (estimate <= *request.deadline_seconds) return {};
  return fail(Code::kBusy,
              "the deadline is in {:.3f} s, the answer would take about {:.3f} s ({} tokens to read, {} to write)",
              *request.deadline_seconds, estimate, rows, tokens);
}

Result<void> Engine::set_precision(std::vector<int> bits) {
  if (!options_.may_switch_precision)
    return fail(Code::kInvalidArgument, "the precision is fixed; it can be switched with --precision auto");
  if (!model_.decoder->has_low_planes())
    return fail(Code::kInvalidArgument, "the model has no low planes: it has one precision");
  const auto units = static_cast<size_t>(model_.decoder->n_units());
  if (bits.size() == 1) bits.resize(units, bits.front());
  if (bits.size() != units || !std::ranges::all_of(bits, [](int each) { return each == 4 || each == 8; }))
    return fail(Code::kInvalidArgument, "a precision is 8 or 4 bits for all, or for each of {} units", units);
  const std::scoped_lock lock(mutex_);
  wanted_bits_ = std::move(bits);
  return {};
}

EngineStats Engine::stats() const {
  const std::scoped_lock lock(mutex_);
  EngineStats stats = stats_;
  stats.waiting = static_cast<int>(queue_.size());
  if (weights_) {
    stats.weight_read_bytes = weights_->read_bytes();
    stats.expert_hits = weights_->expert_hits(), stats.expert_misses = weights_->expert_misses();
  }
  return stats;
}

void Engine::work(const std::stop_token& stop) {
  model_.backend->keep_caller();
  for (;;) {
    const bool idle = active_.empty() && parked_.empty();
    if (!take_requests(stop)) return;
    if (idle && options_.pacer) (void)options_.pacer->take_energy();  // nobody's
    const auto begin = EngineClock::now();
    const uint64_t tokens_before = tokens_out_;
    step();
    const double took = seconds(EngineClock::now() - begin);
    measure_step(took, tokens_out_ - tokens_before);
    retire_finished();
    publish_stats(took);
    if (options_.pacer) keep_pace(stop);
  }
}

// Lets time pass as the pacer wants it, but not for longer than somebody whose request has ended would notice.
void Engine::keep_pace(const std::stop_token& stop) {
  const int bits =
      std::exchange(
          pacing_,
          options_.pacer->step_done(
              {.prompt = prompt_rows_, .decode = decode_rows_, .drafted = step_drafted_, .accepted = step_accepted_}))
          .bits;
  if (pacing_.bits != bits) (void)set_precision({pacing_.bits});  // of models that can
  model_.backend->use_threads(pacing_.threads);
  constexpr double kLook = 0.02, kStandstill = 0.1;
  double left = pacing_.pause_seconds;
  if (tokens_.empty() && !active_.empty()) left = std::max(left, kStandstill);
  const auto over = [](const auto& active) { return active->cancelled() || active->late(EngineClock::now()); };
  for (; left > 0 && !stop.stop_requested() && !std::ranges::any_of(active_, over); left -= kLook) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, std::chrono::duration<double>(std::min(left, kLook)), [] { return false; });
  }
}

// Of `tokens` tokens for all its sequences.
void Engine::measure_step(double took, uint64_t tokens) {
  if (prompt_rows_ == 0 && decode_rows_ > 0) {
    row_costs_.add(decode_rows_, took - guessing_seconds_);
    if (tokens > rows_.size()) took *= static_cast<double>(rows_.size()) / static_cast<double>(tokens);
  }
  pace_.add(prompt_rows_, decode_rows_, took);
}

void Engine::publish_stats(double step_seconds) {
  const std::scoped_lock lock(mutex_);
  weights_ = model_.weights.get();
  stats_.running = static_cast<int>(active_.size());
  stats_.parked = static_cast<int>(parked_.size());
  stats_.kv_positions_max =
      std::min(int64_t{model_.decoder->context()} * options_.parallel, int64_t{store_->pages_max()} * kKvPagePositions);
  stats_.kv_position_bytes = store_->page_bytes() / kKvPagePositions;
  publish_kept();
  const auto kv_bytes = static_cast<uint64_t>(store_->resident_pages() * store_->page_bytes());
  const StreamPlan* streamed =
      model_.weights && model_.weights->plan().read_bytes > 0 ? &model_.weights->plan() : nullptr;
  stats_.weight_bytes = streamed ? streamed->resident_bytes : static_cast<uint64_t>(model_.decoder->weight_bytes());
  stats_.streamed_bytes = streamed ? streamed->read_bytes : 0;
  stats_.own_bytes = kv_bytes + (streamed ? streamed->resident_bytes : 0);
  if (prompt_rows_ + decode_rows_ > 0) ++stats_.steps;
  (prompt_rows_ > 0 ? stats_.prompt_seconds : stats_.decode_seconds) += step_seconds;
  stats_.completion_tokens = tokens_out_;
  stats_.drafted_tokens = drafted_;
  stats_.accepted_tokens = accepted_;
  stats_.prompt_row_seconds = pace_.prompt_row_seconds() / pacing_.share;
  stats_.decode_step_seconds = pace_.decode_step_seconds() / pacing_.share;
  for (int64_t& rows : rows_ahead_) rows = 0;
  for (const auto& active : active_)
    rows_ahead_[static_cast<size_t>(active->request.request_class)] += std::max(0, active->waiting(*store_) - 1);
}

// With the lock held.
void Engine::publish_kept() {
  stats_.kept = static_cast<int>(kept_.size());
  stats_.kv_positions_used =  // a page that a sequence has begun counts whole
      std::min(stats_.kv_positions_max, int64_t{store_->used_pages()} * kKvPagePositions);
  stats_.states_written = states_written_;
  stats_.states_read = states_read_;
  stats_.states_lost = states_lost_;
}

}  // namespace hearth
