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
  for (;;) {
    switch_precision();
    settle_transfers();
    limit_pages();
    fit_memory();
    run_errands();
    while (auto active = choose_next()) {
      switch_precision();  // what was set before it was submitted holds for it
      start(std::move(active));
    }
    write_behind();
    if (stop.stop_requested()) return false;
    if (!active_.empty()) return true;
    std::unique_lock lock(mutex_);
    publish_kept();
    wake_.wait(lock, stop, [&] { return std::exchange(news_, false); });
    if (stop.stop_requested()) return false;
  }
}

void Engine::start(std::unique_ptr<Active> active) {
  const bool was_parked = active->admitted != EngineClock::time_point{};
  auto started = admit(*active);
  if (started) return active_.push_back(std::move(active));
  LOG(kError, "a request could not {}: {}", was_parked ? "go on" : "start", started.error().message);
  active->shared->end(Finish::kCancelled, active->usage);
  const std::scoped_lock lock(mutex_);
  leave_tenant(active->request.tenant);
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
  for (const auto& active : active_)
    if (active->precision != state_precision(*active)) active->precision.clear();
  const std::scoped_lock lock(mutex_);
  for (const auto& waiting : queue_) waiting->looked_at = 0;
  for (const auto& parked : parked_) parked->looked_at = 0;
}

// The next to run of those who wait and those who are parked, if there is a place or one can be made; null if not. Those who gave up or
// are late are ended on the way.
std::unique_ptr<Engine::Active> Engine::choose_next() {
  std::unique_lock lock(mutex_);
  const auto now = EngineClock::now();
  const auto gave_up = [&](const std::unique_ptr<Active>& waiting) {
    if (!waiting->cancelled() && !waiting->late(now)) return false;
    if (waiting->admitted == EngineClock::time_point{})
      waiting->usage.queue_seconds = seconds(now - waiting->submitted);
    waiting->shared->end(waiting->cancelled() ? Finish::kCancelled : Finish::kDeadline, waiting->usage);
    leave_tenant(waiting->request.tenant);
    return true;
  };
  std::erase_if(queue_, gave_up);
  std::erase_if(parked_, gave_up);
  const bool no_place = static_cast<int>(active_.size()) >= options_.parallel;
  const bool overdue_turn = !no_place && seconds(now - last_overdue_) >= options_.patience_seconds;
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
  const auto last = last_active();
  const bool full = no_place || !room_for(**candidates[static_cast<size_t>(best)]);
  const bool waits =
      full && waiting_[static_cast<size_t>(best)].precedence.request_class >= precedence(**last).request_class;
  const int turn = waits ? best : choose_waiting(waiting_, options_.patience_seconds, overdue_turn);
  if (full && !waits && !posted_.empty()) {  // only who is not under way can be parked
    lock.unlock();
    drain();
    retire_finished();
    return choose_next();
  }
  std::unique_ptr<Active>& place = *candidates[static_cast<size_t>(turn)];
  lock.unlock();  // where it is stays as it is: others only add to the queue
  const bool on_its_way = fetch(*place, waits);
  if (waits || on_its_way) return nullptr;
  lock.lock();
  std::unique_ptr<Active> chosen = std::move(place);
  if (turn != best) {
    chosen->out_of_turn = true;
    last_overdue_ = now;
  }
  std::erase(queue_, nullptr);
  std::erase(parked_, nullptr);
  if (full) park(last);  // a request of a lower class makes place
  return chosen;
}

// Of those that run, the one that comes after all others. With the lock held.
std::vector<std::unique_ptr<Engine::Active>>::iterator Engine::last_active() {
  return std::ranges::max_element(active_,
                                  [&](const auto& a, const auto& b) { return before(precedence(*a), precedence(*b)); });
}

// With the lock held. Its state is kept like that of those that have finished: if that lasts it goes on from there.
void Engine::park(std::vector<std::unique_ptr<Active>>::iterator place) {
  (*place)->wants_place_since = EngineClock::now();
  keep(**place);
  parked_.push_back(std::move(*place));
  active_.erase(place);
  ++stats_.preemptions;
}

// Pages that those that run have, or will have when their prompts have run: else one that waits for room would find another in it.
int Engine::active_pages() const {
  int pages = 0;
  for (const auto& active : active_)
    pages +=
        std::max(store_->pages(active->sequence), SequenceStore::pages_for(static_cast<int>(active->tokens.size())));
  return pages;
}

// Whether its tokens and a few more fit beside what runs, when all else is gone. There is room for one always.
bool Engine::room_for(const Active& active) const {
  constexpr int kMorePages = 2;
  const int need = std::min(SequenceStore::pages_for(model_.decoder->context()),
                            SequenceStore::pages_for(static_cast<int>(active.tokens.size())) + kMorePages);
  return active_.empty() || need <= store_->pages_max() - active_pages();
}

// Whether someone is just running a prompt that this one shares, so that waiting for it saves more than it costs.
bool Engine::worth_waiting(const Active& active) const {
  if (active.request.prompt_logprobs) return false;
  if (store_->state_stride() > 0) return false;  // recurrent state is shared at checkpoints only
  int soon = 0;
  for (const auto& other : active_) {
    if (other->request.tenant != active.request.tenant || other->request.adapter != active.request.adapter) continue;
    if (other->finished || other->request.request_class > active.request.request_class) continue;
    if (other->precision != state_precision(active)) continue;
    if (other->waiting(*store_) <= 1) continue;
    const int common = common_prefix(other->request.prompt, active.tokens);
    if (common > store_->length(other->sequence)) soon = std::max(soon, common);
  }
  return soon >= kWaitMin && soon >= longest_prefix(active).length + kWaitMin;
}

// Only a tenant's own sequences are looked at, and their tokens compared.
Engine::Prefix Engine::longest_prefix(const Active& active) const {
  Prefix best;
  const std::string precision = state_precision(active);
  int most = static_cast<int>(active.tokens.size()) - 1;  // the last token runs again, for its logits
  if (active.request.prompt_logprobs && active.told + 1 < active.usage.prompt_tokens)
    most = std::min(most, active.told);
  for (size_t i = 0; i < kept_.size(); ++i) {
    const Kept& kept = kept_[i];
    if (kept.tenant != active.request.tenant || kept.adapter != active.request.adapter || kept.precision != precision)
      continue;
    const int length = std::min(most, common_prefix(kept.tokens, active.tokens));
    if (length > best.length) best = {kept.sequence, length, static_cast<int>(i)};
  }
  for (const auto& other : active_) {
    if (other->request.tenant != active.request.tenant || other->request.adapter != active.request.adapter ||
        other->precision != precision || (other->in_flight && store_->state_stride() > 0))
      continue;
    const int length = std::min({most, store_->length(other->sequence), common_prefix(other->tokens, active.tokens)});
    if (length > best.length) best = {other->sequence, length, -1};
  }
  return best;
}

Result<SequenceId> Engine::open_sequence() {
  auto sequence = store_->open();
  while (!sequence && make_room()) sequence = store_->open();
  return sequence;
}

Result<void> Engine::admit(Active& active) {
  const int reached = TRY(take_over(active));
  if (active.admitted != EngineClock::time_point{}) return {};  // it was parked
  active.admitted = EngineClock::now();
  active.usage.queue_seconds = seconds(active.admitted - active.submitted);
  active.usage.cached_tokens = reached;
  if (options_.chain) active.usage.row_bits = options_.chain->row_bits();
  const std::scoped_lock lock(mutex_);
  stats_.prompt_tokens += active.tokens.size();
  stats_.cached_tokens += static_cast<uint64_t>(reached);
  return {};
}

// Goes on from the sequence that has most of its tokens already, or opens a new one. Gives the tokens reached: what is missing runs,
// be it a prompt or an answer whose state was lost.
Result<int> Engine::take_over(Active& active) {
  active.precision = state_precision(active);
  Prefix prefix = longest_prefix(active);
  while (prefix.kept >= 0 && kept_[static_cast<size_t>(prefix.kept)].arriving) {
    kept_[static_cast<size_t>(prefix.kept)].arriving->wait();
    settle_transfers();
    prefix = longest_prefix(active);
  }
  int reached = 0;
  if (prefix.kept >= 0 &&
      (prefix.length + 1 >= static_cast<int>(kept_[static_cast<size_t>(prefix.kept)].tokens.size()))) {
    active.sequence = prefix.sequence;  // nothing of it is lost
    kept_.erase(kept_.begin() + prefix.kept);
    reached = store_->truncate(active.sequence, prefix.length);
  } else if (prefix.length >= kForkMin) {
    if (prefix.kept >= 0) std::rotate(kept_.begin() + prefix.kept, kept_.begin() + prefix.kept + 1, kept_.end());
    if (const auto fork = store_->fork(prefix.sequence)) {
      active.sequence = *fork;
      reached = store_->truncate(active.sequence, prefix.length);
    }
  }
  if (active.sequence < 0) active.sequence = TRY(open_sequence());
  return reached;
}

void Engine::retire_finished() {
  if (crowded_) drain();  // so that any of them can be parked
  for (auto& active : active_) {
    if (!active->finished) continue;
    remember_answer(*active);
    keep_or_release(*active);
    const std::scoped_lock lock(mutex_);
    leave_tenant(active->request.tenant);
  }
  std::erase_if(active_, [](const auto& active) { return active->finished; });
  const std::scoped_lock lock(mutex_);
  if (std::exchange(crowded_, false) && active_.size() > 1) park(last_active());
}

}  // namespace hearth
