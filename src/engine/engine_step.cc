// One step: rows in, tokens out.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/log.h"
#include "engine/engine_active.h"

namespace hearth {
namespace {

// The longest end of `text` that begins one of the stop texts: it has to wait for what follows.
size_t held_back(std::string_view text, std::span<const std::string> stops) {
  size_t longest = 0;
  for (const std::string& stop : stops)
    for (size_t n = std::min(stop.size() - 1, text.size()); n > longest; --n)
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
  return longest;
}

// The n largest logits, largest first, ties to the lower token.
std::vector<std::pair<Token, float>> most_likely(std::span<const float> logits, size_t n) {
  std::vector<std::pair<Token, float>> found(std::min(n, logits.size()), {0, 0.0f});
  std::vector<std::pair<Token, float>> all;
  all.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) all.emplace_back(static_cast<Token>(i), logits[i]);
  std::ranges::partial_sort_copy(all, found, [](const auto& a, const auto& b) {
    return a.second > b.second || (a.second == b.second && a.first < b.first);
  });
  return found;
}

}  // namespace

void Engine::step() {
  bool ran = false;
  if (options_.chain) {
    ran = run_through_chain();
  } else {
    compose_rows();
    ran = !tokens_.empty() && run_rows();
  }
  if (ran) choose_tokens();
  if (!posted_.empty()) return;  // the rows of candidates wait until nothing else is under way
  for (Active* active : scored_) finish_scores(*active);
  scored_.clear();
}

// For those of the rows that ran.
void Engine::choose_tokens() {
  for (size_t i = 0; i < ran_.size(); ++i)
    if (ran_[i].active->request.prompt_logprobs)
      tell_prompt(*ran_[i].active, rows_[i].first_row, rows_[i].position, rows_[i].count);
  for (size_t i = 0; i < ran_.size(); ++i)
    store_->advance(ran_[i].active->sequence, rows_[i].count - ran_[i].active->draft.rows);
  if (options_.pacer) share_energy();
  std::erase_if(ran_, [&](const Ran& ran) { return !token_is_due(*ran.active); });
  sample_from_top();
  sample_from_all();
  for (const auto& active : active_)
    if (active->draft.rows > 0 && !active->in_flight)
      store_->truncate(active->sequence, store_->length(active->sequence));
}

// The layers over the rows there are. False if a chain lost its state: then all runs again from the tokens, or nothing can.
bool Engine::run_rows() {
  if (options_.chain) return run_rows_through_chain();
  Batch batch{.tokens = tokens_, .sequences = rows_, .adapters = adapters_};
  if (std::ranges::any_of(exits_, [](const ExitPolicy& exit) { return exit.layers > 0; })) batch.exits = exits_;
  model_.decoder->run(batch, *store_);
  return true;
}

// The rows of the next step, and whose they are.
void Engine::compose_rows() {
  runnables_.clear(), tokens_.clear(), rows_.clear(), adapters_.clear(), exits_.clear(), ran_.clear();
  prompt_rows_ = decode_rows_ = step_drafted_ = step_accepted_ = 0;
  // Memory changes between steps: one must not take long where it may have to. Streamed weights are better read for many rows.
  constexpr double kBoundSeconds = 0.4;
  const bool bound = stats_.bytes_max > 0 && stats_.streamed_bytes == 0;
  const int prefill_max = bound ? pace_.rows_within(kBoundSeconds, options_.prefill_max) : options_.prefill_max;
  StepLimits limits{.rows_max = model_.decoder->rows_max(),
                    .prefill_max = std::min(prefill_max, pacing_.prefill_max),
                    .mixed_prefill = std::min(pace_.mixed_prefill(prefill_max), pacing_.prefill_max),
                    .classes = pacing_.classes};
  int generating = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (auto& active : active_) {
      if (!active->in_flight) end_if_over(*active);
      const int waiting = active->finished ? 0 : active->waiting(*store_);
      const bool prefill = waiting > 1 || active->usage.completion_tokens == 0;
      if (waiting > 0 && !prefill) ++generating;
      if (active->in_flight && !prefill) limits.prefill_max = limits.mixed_prefill;
      runnables_.push_back(
          {.waiting = active->in_flight ? 0 : waiting, .prefill = prefill, .precedence = precedence(*active)});
    }
  }
  if (options_.chain) limits.generating_max = (generating + options_.chain->depth() - 1) / options_.chain->depth();
  compose_step(runnables_, limits, turn_++, shares_);
  find_drafts();
  for (const Share share : shares_) {
    Active& active = *active_[static_cast<size_t>(share.index)];
    Draft& draft = active.draft;
    auto room = store_->reserve(active.sequence, share.count + draft.rows);
    if (!room) draft.rows = 0;  // nothing has to make room for a guess
    while (!room && make_room()) room = store_->reserve(active.sequence, share.count);
    if (!room && active_.size() > 1) {  // the last of them will be parked
      crowded_ = true;
      draft.rows = 0;
      continue;
    }
    if (!room) {
      finish(active, Finish::kContext);
      continue;
    }
    const int count = share.count + draft.rows;
    const auto from = active.tokens.begin() + store_->length(active.sequence);
    rows_.push_back(store_->rows(active.sequence, static_cast<int>(tokens_.size()), count));
    adapters_.push_back(active.request.adapter.get());
    exits_.push_back(active.exit);
    tokens_.insert(tokens_.end(), from, from + share.count);
    ran_.push_back({&active, static_cast<int32_t>(tokens_.size()) - 1, active.needs_all_logits()});
    tokens_.insert(tokens_.end(), draft.tokens.begin(), draft.tokens.begin() + draft.rows);
    drafted_[static_cast<size_t>(draft.source)] += static_cast<uint64_t>(draft.rows);
    active.usage.drafted_tokens += draft.rows;
    step_drafted_ += draft.rows;
    (runnables_[static_cast<size_t>(share.index)].prefill ? prompt_rows_ : decode_rows_) += count;
  }
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < ran_.size(); ++i)
    tenants_.find(ran_[i].active->request.tenant)->second.served += rows_[i].count;
}

// What was used since the last step goes to the sequences of this one, by rows.
void Engine::share_energy() {
  const Pacer::Energy energy = options_.pacer->take_energy();
  for (size_t i = 0; i < ran_.size(); ++i) {
    Usage& usage = ran_[i].active->usage;
    const bool first = usage.joules < 0;
    usage.bits_lowered |= pacing_.bits < 8 && options_.may_switch_precision && model_.decoder->has_low_planes();
    usage.joules_measured = energy.measured && (first || usage.joules_measured);
    usage.joules = std::max(usage.joules, 0.0) + energy.joules * rows_[i].count / static_cast<double>(tokens_.size());
  }
}

void Engine::end_if_over(Active& active) {
  if (active.finished) return;
  if (active.cancelled())
    finish(active, Finish::kCancelled);
  else if (active.request.deadline_seconds && active.late(EngineClock::now()))
    finish(active, Finish::kDeadline);
}

// Whether all of a sequence has run, so that the next token can be chosen.
bool Engine::token_is_due(Active& active) {
  if (active.waiting(*store_) > 0) return false;  // more of the prompt is to come
  if (active.usage.completion_tokens > 0) return true;
  active.first_token = EngineClock::now();
  active.usage.prefill_seconds = seconds(active.first_token - active.admitted);
  if (active.request.max_tokens == 0 && active.request.candidates.empty()) finish(active, Finish::kLength);
  return !active.finished;
}

// What a head elsewhere is asked about.
std::span<const float> Engine::wanted_stream() {
  head_rows_.resize(wanted_.size() * static_cast<size_t>(model_.decoder->config().d_model));
  model_.decoder->residual(wanted_, head_rows_);
  return head_rows_;
}

// Of the wanted rows, into top_tokens_ and logits_.
void Engine::find_likely(int count) {
  top_tokens_.resize(wanted_.size() * static_cast<size_t>(count)), logits_.resize(top_tokens_.size());
  if (options_.head && options_.head->most_likely(wanted_stream(), count, top_tokens_, logits_)) return;
  model_.decoder->most_likely(wanted_, count, top_tokens_, logits_);
}

// The same, all of them.
void Engine::find_logits() {
  logits_.resize(wanted_.size() * static_cast<size_t>(model_.decoder->config().n_vocab));
  if (options_.head && options_.head->logits(wanted_stream(), logits_)) return;
  model_.decoder->logits(wanted_, logits_);
}

// The next tokens of all whose sampler looks at the most likely ones only, from one product.
void Engine::sample_from_top() {
  wanted_.clear();
  int most = 0;
  for (const Ran& ran : ran_) {
    if (ran.all_logits) continue;
    for (int row = 0; row <= ran.active->draft.rows; ++row) wanted_.push_back(ran.row + row);
    most = std::max(most, ran.active->tokens_looked_at());
  }
  if (wanted_.empty()) return;
  const int count = std::min(most, model_.decoder->config().n_vocab);
  const auto n = static_cast<size_t>(count);
  find_likely(count);
  size_t first = 0;
  for (Ran& ran : ran_) {
    if (ran.all_logits) continue;
    for (ran.done = 0; !ran.over && !ran.all_logits;) {
      const size_t at = (first + static_cast<size_t>(ran.done)) * n;
      ran.active->left_early = model_.decoder->left_early(ran.row + ran.done);
      ran.all_logits =
          !sample_top(*ran.active, std::span(top_tokens_).subspan(at, n), std::span(logits_).subspan(at, n));
      if (!ran.all_logits) go_on(ran);
    }
    first += static_cast<size_t>(ran.active->draft.rows) + 1;
  }
}

void Engine::go_on(Ran& ran) {
  if (next_row_counts(*ran.active, ran.done))
    ++ran.done;
  else
    ran.over = true;
}

// False if too few of the most likely tokens are allowed.
bool Engine::sample_top(Active& active, std::span<Token> tokens, std::span<float> logits) {
  if (active.constraint) {
    const size_t needed = std::min(static_cast<size_t>(active.sampler.tokens_needed()), tokens.size());
    size_t n = 0;
    for (size_t i = 0; i < tokens.size() && n < needed; ++i)
      if (active.constraint->accepts(tokens[i])) tokens[n] = tokens[i], logits[n++] = logits[i];
    if (n < needed) return false;
    tokens = tokens.first(n), logits = logits.first(n);
  }
  take_token(active, active.sampler.sample_top(tokens, logits, static_cast<int64_t>(active.tokens.size())));
  return true;
}

// The next tokens of the others, a few rows of logits at a time.
void Engine::sample_from_all() {
  constexpr size_t kRows = 4;
  const auto n_vocab = static_cast<size_t>(model_.decoder->config().n_vocab);
  for (;;) {
    std::erase_if(ran_, [](const Ran& ran) { return ran.over || !ran.all_logits; });
    if (ran_.empty()) return;
    wanted_.clear();
    std::array<Ran*, kRows> whose{};
    for (Ran& ran : ran_)
      for (int row = ran.done; row <= ran.active->draft.rows && wanted_.size() < kRows; ++row) {
        whose[wanted_.size()] = &ran;
        wanted_.push_back(ran.row + row);
      }
    find_logits();
    for (size_t i = 0; i < wanted_.size(); ++i) {
      if (whose[i]->over) continue;
      whose[i]->active->left_early = model_.decoder->left_early(wanted_[i]);
      sample_row(*whose[i]->active, std::span(logits_).subspan(i * n_vocab, n_vocab));
      go_on(*whose[i]);
    }
  }
}

void Engine::sample_row(Active& active, std::span<float> logits) {
  if (!active.request.candidates.empty()) return begin_scores(active, logits);
  std::span<const uint64_t> allowed;
  if (active.constraint) {
    allowed = active.constraint->allowed();
    // The vocabulary cannot write what the grammar wants: what there is is a valid beginning.
    if (std::ranges::all_of(allowed, [](uint64_t word) { return word == 0; })) return finish(active, Finish::kLength);
  }
  const auto position = static_cast<int64_t>(active.tokens.size());
  if (active.request.logprobs < 0)
    return take_token(active, active.sampler.sample(logits, active.tokens, position, allowed));
  // Sampling changes the logits.
  raw_logits_.assign(logits.begin(), logits.end());
  const Token token = active.sampler.sample(logits, active.tokens, position, allowed);
  TokenLogprob logprob = told(active, raw_logits_, token);
  take_token(active, logprob.token, &logprob);
}

TokenLogprob Engine::told(const Active& active, std::span<const float> logits, Token token) const {
  const double normaliser = log_sum_exp(logits);
  const auto log_probability = [&](float logit) { return static_cast<float>(logit - normaliser); };
  TokenLogprob logprob{.token = token, .logprob = log_probability(logits[static_cast<size_t>(token)])};
  logprob.top = most_likely(logits, static_cast<size_t>(active.request.logprobs));
  for (auto& [other, value] : logprob.top) value = log_probability(value);
  return logprob;
}

// How likely the tokens of the prompt were that follow the rows of this step.
void Engine::tell_prompt(Active& active, int first_row, int position, int count) {
  const int last = static_cast<int>(active.request.prompt.size()) - 1;
  for (int i = std::max(0, active.told - position); i < count && position + i < last; ++i) {
    active.told = position + i + 1;
    wanted_.assign(1, first_row + i);
    find_logits();
    TokenLogprob logprob = told(active, logits_, active.request.prompt[static_cast<size_t>(position + i) + 1]);
    active.shared->push("", kNoToken, &logprob);
  }
}

// Adds a sampled token to the answer and applies the rules that end it.
void Engine::take_token(Active& active, Token token, TokenLogprob* logprob) {
  ++active.usage.completion_tokens;
  active.usage.exited_tokens += active.left_early ? 1 : 0;
  ++tokens_out_;
  judge_draft(active, token);
  if (model_.text.tokenizer->ends_generation(token) && !active.request.ignore_eos) {
    if (active.request.special) active.held += model_.text.tokenizer->bytes(token, true, false);
    return finish(active, Finish::kEnd);
  }
  if (active.constraint) CHECK(active.constraint->accept(token));
  active.tokens.push_back(token);
  active.held += active.detokenizer.push(token);
  size_t cut = std::string::npos;
  for (const std::string& stop : active.request.stop) cut = std::min(cut, active.held.find(stop));
  if (cut != std::string::npos) {
    active.held.resize(cut);
    active.shared->push("", token, logprob);
    active.detokenizer = Detokenizer(*model_.text.tokenizer, active.request.special);  // nothing may follow
    return finish(active, Finish::kStop);
  }
  const size_t ready = active.held.size() - held_back(active.held, active.request.stop);
  active.shared->push(std::string_view(active.held).substr(0, ready), token, logprob);
  active.held.erase(0, ready);
  if (active.constraint && only_the_end_may_follow(active)) return finish(active, Finish::kEnd);
  if (active.usage.completion_tokens == active.request.max_tokens) return finish(active, Finish::kLength);
  if (static_cast<int>(active.tokens.size()) >= model_.decoder->context()) return finish(active, Finish::kContext);
}

// Then asking the model would cost a step and change nothing.
bool Engine::only_the_end_may_follow(Active& active) const {
  if (!active.constraint->complete()) return false;
  const std::span<const uint64_t> allowed = active.constraint->allowed();
  for (size_t word = 0; word < allowed.size(); ++word)
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1)
      if (!model_.text.tokenizer->ends_generation(
              static_cast<Token>(word * 64 + static_cast<size_t>(std::countr_zero(bits)))))
        return false;
  return true;
}

void Engine::finish(Active& active, Finish why) {
  active.finished = true;
  active.usage.decode_seconds =
      active.usage.completion_tokens == 0 ? 0.0 : seconds(EngineClock::now() - active.first_token);
  if (why != Finish::kStop) active.held += active.detokenizer.finish();
  if (!active.held.empty()) active.shared->push(active.held, kNoToken);
  active.shared->end(why, active.usage, std::move(active.scores));
}

}  // namespace hearth
