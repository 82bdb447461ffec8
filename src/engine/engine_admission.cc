// Who gets a place, with what state to begin from.
#include <algorithm>

#include "base/log.h"
#include "engine/engine_active.h"

namespace hearth {
namespace {

// A shorter common beginning is not worth a page of its own.
constexpr int kForkMin = 16;
// A request waits for another's prompt to be run if it can take over at least so many tokens more.
constexpr int kWaitMin = 64;

// A shorter beginning is run again sooner than it is read.
constexpr int kWorthDisk = 128;

}  // namespace

void Engine::enter_tenant(const std::string& name) {
  // Who comes anew starts level with whoever was given least, and has no credit from times of rest.
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [other, tenant] : tenants_) least = std::min(least, tenant.served);
  const auto [place, fresh] = tenants_.try_emplace(name);
  if (fresh) place->second.served = tenants_.size() == 1 ? 0 : least;
  ++place->second.requests;
}

void Engine::leave_tenant(const std::string& name) {
  const auto place = tenants_.find(name);
  if (--place->second.requests == 0) tenants_.erase(place);
}

// With the lock held.
Precedence Engine::precedence(const Active& active) const {
  Precedence precedence{.request_class = active.request.request_class,
                        .priority = active.request.priority,
                        .tenant_served = tenants_.find(active.request.tenant)->second.served,
                        .arrival = active.arrival};
  if (active.out_of_turn) precedence.request_class = std::min(precedence.request_class, RequestClass::kInteractive);
  if (active.request.deadline_seconds)
    precedence.deadline = seconds(active.submitted.time_since_epoch()) + *active.request.deadline_seconds;
  return precedence;
}

// Moves waiting requests into the free places; waits while there is nothing to do. False when the engine shuts down.
bool Engine::take_requests(std::stop_token stop) {
  {
    std::unique_lock lock(mutex_);
    if (active_.empty() && parked_.empty())
      wake_.wait(lock, stop, [&] { return !queue_.empty() || wanted_bytes_.has_value(); });
  }
  if (stop.stop_requested()) return false;
  switch_precision();
  fit_memory();
  while (auto active = choose_next()) {
    const bool was_parked = active->admitted != EngineClock::time_point{};
    if (auto started = was_parked ? resume(*active) : admit(*active); started) {
      active_.push_back(std::move(active));
      continue;
    } else {
      LOG(kError, "a request could not {}: {}", was_parked ? "go on" : "start", started.error().message);
    }
    active->shared->end(Finish::kCancelled, active->usage);
    const std::scoped_lock lock(mutex_);
    leave_tenant(active->request.tenant);
  }
  return true;
}

// Between steps. Sequences under way go on; what they have computed so far is of no use to others.
void Engine::switch_precision() {
  std::vector<int> bits;
  {
    const std::scoped_lock lock(mutex_);
    if (wanted_bits_.empty()) return;
    bits.swap(wanted_bits_);
  }
  for (size_t unit = 0; unit < bits.size(); ++unit) model_.decoder->set_bits(static_cast<int>(unit), bits[unit]);
  precision_ = model_.decoder->precision();
  for (const auto* list : {&active_, &parked_})
    for (const auto& active : *list)
      if (active->precision != precision_) active->precision.clear();
}

// The next to run of those who wait and those who are parked, if there is a place or one can be made; null if not. Those who gave up or
// are late are ended on the way.
std::unique_ptr<Engine::Active> Engine::choose_next() {
  const std::scoped_lock lock(mutex_);
  const auto now = EngineClock::now();
  const auto gave_up = [&](const std::unique_ptr<Active>& waiting) {
    if (!waiting->cancelled() && !waiting->late(now)) return false;
    if (waiting->sequence >= 0) store_->release(waiting->sequence);
    if (waiting->admitted == EngineClock::time_point{})
      waiting->usage.queue_seconds = seconds(now - waiting->submitted);
    waiting->shared->end(waiting->cancelled() ? Finish::kCancelled : Finish::kDeadline, waiting->usage);
    leave_tenant(waiting->request.tenant);
    return true;
  };
  std::erase_if(queue_, gave_up);
  std::erase_if(parked_, gave_up);
  const bool full = static_cast<int>(active_.size()) >= options_.parallel;
  const bool overdue_turn = !full && seconds(now - last_overdue_) >= options_.patience_seconds;
  std::vector<std::unique_ptr<Active>*> candidates;
  waiting_.clear();
  const auto look_at = [&](std::unique_ptr<Active>& candidate) {
    candidates.push_back(&candidate);
    waiting_.push_back({precedence(*candidate), seconds(now - candidate->wants_place_since)});
  };
  for (auto& parked : parked_) look_at(parked);
  for (auto& waiting : queue_)
    if (!worth_waiting(*waiting)) look_at(waiting);
  const int best = choose_waiting(waiting_, options_.patience_seconds, false);
  if (best < 0) return nullptr;
  const auto last = std::ranges::max_element(
      active_, [&](const auto& a, const auto& b) { return before(precedence(*a), precedence(*b)); });
  if (full && waiting_[static_cast<size_t>(best)].precedence.request_class >= precedence(**last).request_class)
    return nullptr;
  const int turn = choose_waiting(waiting_, options_.patience_seconds, overdue_turn);
  std::unique_ptr<Active> chosen = std::move(*candidates[static_cast<size_t>(turn)]);
  if (turn != best) {
    chosen->out_of_turn = true;
    last_overdue_ = now;
  }
  std::erase(queue_, nullptr);
  std::erase(parked_, nullptr);
  if (full) {  // a request of a lower class makes place
    (*last)->wants_place_since = now;
    parked_.push_back(std::move(*last));
    active_.erase(last);
    ++stats_.preemptions;
  }
  return chosen;
}

// Whether someone is just running a prompt that this one shares, so that waiting for it saves more than it costs.
bool Engine::worth_waiting(const Active& active) const {
  if (active.request.prompt_logprobs) return false;
  if (store_->state_stride() > 0) return false;  // recurrent state is shared at checkpoints only
  int soon = 0;
  for (const auto& other : active_) {
    if (other->request.tenant != active.request.tenant || other->request.adapter != active.request.adapter) continue;
    if (other->finished || other->request.request_class > active.request.request_class) continue;
    if (other->precision != precision_) continue;
    if (other->waiting(*store_) <= 1) continue;
    const int common = common_prefix(other->request.prompt, active.tokens);
    if (common > store_->length(other->sequence)) soon = std::max(soon, common);
  }
  return soon >= kWaitMin && soon >= longest_prefix(active).length + kWaitMin;
}

// Only a tenant's own sequences are looked at, and their tokens compared.
Engine::Prefix Engine::longest_prefix(const Active& active) const {
  Prefix best;
  const int most = static_cast<int>(active.tokens.size()) - 1;  // the last token runs again, for its logits
  for (size_t i = 0; i < kept_.size(); ++i) {
    const Kept& kept = kept_[i];
    if (kept.tenant != active.request.tenant || kept.adapter != active.request.adapter || kept.precision != precision_)
      continue;
    const int length = std::min(most, common_prefix(kept.tokens, active.tokens));
    if (length > best.length) best = {kept.sequence, length, static_cast<int>(i)};
  }
  for (const auto* list : {&active_, &parked_})
    for (const auto& other : *list) {
      if (other->sequence < 0 || other->request.tenant != active.request.tenant ||
          other->request.adapter != active.request.adapter || other->precision != precision_)
        continue;
      const int length = std::min({most, store_->length(other->sequence), common_prefix(other->tokens, active.tokens)});
      if (length > best.length) best = {other->sequence, length, -1};
    }
  return best;
}

Result<SequenceId> Engine::open_sequence() {
  auto sequence = store_->open();
  while (!sequence && release_kept(0)) sequence = store_->open();
  return sequence;
}

// Goes on from the sequence that has most of the prompt already, or opens a new one.
Result<void> Engine::admit(Active& active) {
  active.admitted = EngineClock::now();
  active.usage.queue_seconds = seconds(active.admitted - active.submitted);
  active.precision = precision_;
  const Prefix prefix = active.request.prompt_logprobs ? Prefix{} : longest_prefix(active);
  int reached = 0;
  if (prefix.kept >= 0 &&
      (prefix.length + 1 >= static_cast<int>(kept_[static_cast<size_t>(prefix.kept)].tokens.size()))) {
    active.sequence = prefix.sequence;  // nothing of it is lost
    kept_.erase(kept_.begin() + prefix.kept);
    reached = store_->truncate(active.sequence, prefix.length);
  } else if (prefix.length >= kForkMin) {
    if (prefix.kept >= 0) std::rotate(kept_.begin() + prefix.kept, kept_.begin() + prefix.kept + 1, kept_.end());
    auto fork = store_->fork(prefix.sequence);
    while (!fork && kept_.size() > 1 && release_kept(0)) fork = store_->fork(prefix.sequence);
    if (fork) {
      active.sequence = *fork;
      reached = store_->truncate(active.sequence, prefix.length);
    }
  }
  reached = resume_from_disk(active, reached);
  if (active.sequence < 0) active.sequence = TRY(open_sequence());
  active.usage.cached_tokens = reached;
  const std::scoped_lock lock(mutex_);
  stats_.prompt_tokens += active.tokens.size();
  stats_.cached_tokens += static_cast<uint64_t>(reached);
  return {};
}

// A parked request goes on with its state as it was.
Result<void> Engine::resume(Active& active) {
  if (active.sequence >= 0) return {};
  auto sequence = store_->import_state(active.spilled);
  while (!sequence && make_room()) sequence = store_->import_state(active.spilled);
  active.sequence = TRY(std::move(sequence));
  active.spilled = {};
  return {};
}

// Takes the state of a prompt's beginning from disk if it is much longer than what there is in memory. Returns the tokens reached.
int Engine::resume_from_disk(Active& active, int length) {
  if (!options_.state_cache || active.request.adapter || active.request.prompt_logprobs) return length;
  const StateOwner owner = state_owner(active.request.tenant, precision_);
  const StateCache::Found found = options_.state_cache->longest_prefix(owner, active.tokens);
  if (found.length < length + kWorthDisk) return length;
  const auto loaded = options_.state_cache->load(owner, found.name);
  if (!loaded) return length;
  auto sequence = store_->import_state(loaded->state);
  while (!sequence && make_room()) sequence = store_->import_state(loaded->state);
  if (!sequence) return length;
  const int reached = store_->truncate(*sequence, std::min(found.length, static_cast<int>(active.tokens.size()) - 1));
  if (active.sequence >= 0) store_->release(active.sequence);
  active.sequence = *sequence;
  return reached;
}

StateOwner Engine::state_owner(const std::string& tenant, const std::string& precision) const {
  // The whole of a model is not named: so it is called what it was before there was less.
  return {tenant, fmt::format("{} {}{}{}", options_.model_digest, name(store_->kv_type()), precision == "8" ? "" : " ",
                              precision == "8" ? "" : precision)};
}

void Engine::save(const Kept& kept, bool wait) const {
  if (!options_.state_cache || kept.adapter || static_cast<int>(kept.tokens.size()) < kWorthDisk) return;
  StateOwner owner = state_owner(kept.tenant, kept.precision);
  if (options_.state_cache->has(owner, kept.tokens)) return;
  auto state = store_->export_state(kept.sequence, 0, model_.decoder->config().n_layers());
  if (state) options_.state_cache->keep(std::move(owner), kept.tokens, std::move(*state), wait);
}

bool Engine::release_kept(size_t index, bool save_state) {
  if (index >= kept_.size()) return false;
  if (save_state) save(kept_[index], false);
  store_->release(kept_[index].sequence);
  kept_.erase(kept_.begin() + static_cast<ptrdiff_t>(index));
  return true;
}

// Moves the state of a parked request out of the pages, that of the last to go on first.
bool Engine::spill_parked() {
  Active* last = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& parked : parked_)
      if (parked->sequence >= 0 && (last == nullptr || before(precedence(*last), precedence(*parked))))
        last = parked.get();
  }
  if (last == nullptr) return false;
  auto state = store_->export_state(last->sequence, 0, model_.decoder->config().n_layers());
  if (!state) return false;
  last->spilled = std::move(*state);
  store_->release(last->sequence);
  last->sequence = -1;
  return true;
}

bool Engine::make_room() { return release_kept(0) || spill_parked(); }

// Finished sequences stay for a while: the next turn of the same conversation begins with their tokens.
void Engine::keep_or_release(Active& active) {
  active.tokens.resize(static_cast<size_t>(store_->length(active.sequence)));
  const auto begins_with = [](std::span<const Token> whole, std::span<const Token> part) {
    return part.size() <= whole.size() && std::ranges::equal(whole.first(part.size()), part);
  };
  bool there = active.tokens.empty() || active.precision.empty();
  for (size_t i = 0; i < kept_.size() && !there;) {
    const bool related = kept_[i].tenant == active.request.tenant && kept_[i].adapter == active.request.adapter &&
                         kept_[i].precision == active.precision;
    there = related && begins_with(kept_[i].tokens, active.tokens);
    if (related && !there && begins_with(active.tokens, kept_[i].tokens))
      release_kept(i, false);
    else
      ++i;
  }
  if (there || options_.kept_max == 0) return store_->release(active.sequence);
  if (static_cast<int>(kept_.size()) >= options_.kept_max) release_kept(0);
  kept_.push_back({active.sequence, active.request.tenant, active.request.adapter, std::move(active.precision),
                   std::move(active.tokens)});
}

void Engine::retire_finished() {
  for (auto& active : active_) {
    if (!active->finished) continue;
    remember_answer(*active);
    keep_or_release(*active);
    const std::scoped_lock lock(mutex_);
    leave_tenant(active->request.tenant);
  }
  std::erase_if(active_, [](const auto& active) { return active->finished; });
}

}  // namespace hearth
