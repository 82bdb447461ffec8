#include "cluster/chain_owner.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace hearth::cluster {

using Kind = ChainAction::Kind;
namespace {

Time median(std::array<Time, 5> times) {
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace

ChainOwner::ChainOwner(ChainPlan plan, int n_nodes, ChainTiming timing, bool resumable, size_t kept, uint32_t term)
    : first_plan_(plan),
      plan_(std::move(plan)),
      timing_(timing),
      resumable_(resumable),
      kept_(kept),
      nodes_(static_cast<size_t>(n_nodes)),
      warm_up_(static_cast<size_t>(n_nodes)),
      epoch_(static_cast<uint64_t>(term) << 32) {}

const PlannedStage* ChainOwner::stage_of(int node) const {
  const auto found = std::ranges::find(plan_.stages, node, &PlannedStage::node);
  return found == plan_.stages.end() ? nullptr : &*found;
}

int ChainOwner::next_node(int node) const {
  const PlannedStage* stage = stage_of(node);
  return !stage || stage == &plan_.stages.back() ? -1 : stage[1].node;
}

void ChainOwner::begin(Time now) {
  plan_ = first_plan_;
  for (Node& node : nodes_) node.lost = false;
  has_run_ = false;
  begin_epoch(false, now);
}

void ChainOwner::begin_epoch(bool resuming, Time now) {
  ++epoch_;
  resuming_ = resuming;
  copies_.clear();
  if (!resuming) {
    next_step_ = 1;
    flying_.clear();
  }
  phase_ = Phase::kSettingUp;
  forget_slow();
  act(Kind::kClosePaths);
  for (const PlannedStage& stage : plan_.stages) {
    Node& node = at(stage.node);
    node.ready = false;
    node.since = now;
    act(node.connected ? Kind::kAssign : Kind::kConnect, stage.node);
  }
  run_if_all_ready(now);
}

// The next epoch is by this plan.
void ChainOwner::go_on_with(ChainPlan plan, Time now) {
  const ChainPlan before = std::exchange(plan_, std::move(plan));
  for (const PlannedStage& stage : plan_.stages) at(stage.node).lost = false;
  for (const PlannedStage& stage : before.stages)  // who has no stage any more is only a spare
    if (!stage_of(stage.node) && at(stage.node).connected) {
      act(Kind::kDisconnect, stage.node);
      at(stage.node) = {
          .since = now, .leaving = at(stage.node).leaving, .second_chance = at(stage.node).second_chance, .pinged = {}};
    }
  if (!resumable_ || !has_run_ || plan_.own_end != before.own_end) return start_over(now);
  begin_epoch(true, now);
}

void ChainOwner::start_over(Time now) {
  has_run_ = false;
  act(Kind::kStartOver);
  begin_epoch(false, now);
}

void ChainOwner::connected(int node, Time now) {
  const bool wanted = at(node).connecting;
  if (at(node).lost || (!stage_of(node) && !wanted)) return act(Kind::kDisconnect, node);
  at(node) = {.connected = true, .since = now, .second_chance = at(node).second_chance, .pinged = now};
  if (stage_of(node)) return act(Kind::kAssign, node);
  begin_copies(now);
}

void ChainOwner::ready(int node, uint64_t epoch, const Ready& ready, Time now) {
  if (epoch != epoch_ || phase_ != Phase::kSettingUp || !stage_of(node) || !at(node).connected) return;
  const LayerRange layers = stage_of(node)->layers;
  if (ready.warm_up_us > 0)
    warm_up_[static_cast<size_t>(node)] = std::chrono::microseconds(ready.warm_up_us) / (layers.end - layers.first);
  Node& is = at(node);
  is.ready = true;
  is.pinged = now;
  is.has_state = ready.has_state, is.done = is.ran = ready.done, is.oldest = ready.oldest;
  is.busy = is.busy_before = {};
  run_if_all_ready(now);
}

void ChainOwner::run_if_all_ready(Time now) {
  if (!std::ranges::all_of(plan_.stages, [&](const PlannedStage& stage) { return at(stage.node).ready; })) return;
  if (resuming_ && !repeat_steps(now)) return start_over(now);
  phase_ = Phase::kRunning;
  has_run_ = true;
  if (plan_.stages.empty()) return;
  act(Kind::kOpenPaths);
  for (const Flying& each : flying_) act(Kind::kSend, -1, each.step);
  begin_copies(now);
}

// From the first step on that some stage has not run. False if it cannot be had any more.
bool ChainOwner::repeat_steps(Time now) {
  uint64_t first = flying_.empty() ? next_step_ : flying_.front().step, oldest = this->oldest();
  for (const PlannedStage& stage : plan_.stages) {
    const Node& node = at(stage.node);
    if (!node.has_state) return false;
    first = std::min(first, node.done + 1);
    oldest = std::max(oldest, node.oldest);
  }
  if (first < oldest) return false;
  for (uint64_t step = flying_.empty() ? next_step_ : flying_.front().step; step > first; ++repeated_)
    flying_.push_front({.step = --step, .again = true});
  for (Flying& each : flying_) each.answered = false, each.sent = each.begun = now, each.wait = timing_.resend;
  ++resumed_;
  return true;
}

bool ChainOwner::usable(int node, Time now) const {
  const Node& is = nodes_[static_cast<size_t>(node)];
  if (is.connected) return !is.leaving;
  return (!is.leaving && !is.lost) || now - is.since >= timing_.second_chance + is.second_chance;
}

// Home, if it is elsewhere; else to who would take it over. -1: nobody.
int ChainOwner::copy_goes_to(int piece, Time now) const {
  const int home = first_plan_.stages[static_cast<size_t>(piece)].node, has = holder(piece);
  if (has < 0) return -1;
  if (has != home && usable(home, now)) return home;
  std::vector<bool> alive;
  for (int node = 0; node < static_cast<int>(nodes_.size()); ++node) alive.push_back(node != has && usable(node, now));
  for (const PlannedStage& stage : plan_.stages)  // only one at a time is thought to go
    if (stage.node != has) alive[static_cast<size_t>(stage.node)] = true;
  return holders(first_plan_, without_lost(plan_, alive))[static_cast<size_t>(piece)];
}

void ChainOwner::begin_copies(Time now) {
  if (!resumable_ || !running()) return;
  looked_ = now;
  for (int piece = 0; piece < static_cast<int>(first_plan_.stages.size()); ++piece) {
    const int to = copy_goes_to(piece, now);
    const auto copy = std::ranges::find(copies_, piece, &Copy::piece);
    if (to < 0 || (copy != copies_.end() && copy->to == to)) continue;
    Node& node = at(to);
    if (node.connected) {
      if (copy != copies_.end()) copies_.erase(copy);
      copies_.push_back({.piece = piece, .to = to});
      act(Kind::kAssignCopy, to, 0, piece);
    } else if (!node.connecting) {
      node.lost = false;
      node.connecting = true;
      act(Kind::kConnect, to);
    }
  }
}

void ChainOwner::copied(int node, uint64_t epoch, LayerRange layers, bool whole, uint64_t done, Time now) {
  if (epoch != epoch_ || !running()) return;
  for (Copy& copy : copies_) {
    if (copy.to != node || piece(copy.piece).first != layers.first) continue;
    if (!whole && !copy.whole) act(Kind::kCopyTo, node, 0, copy.piece);
    copy.whole = whole, copy.done = done;
  }
  move(now);
}

void ChainOwner::leaving(int node, Time now) {
  at(node).leaving = true;
  if (!stage_of(node)) return lost(node, now);
  begin_copies(now);  // where they go may be another
  move(now);
}

// Pieces that are to be elsewhere and whose copies there are near enough.
void ChainOwner::move(Time now) {
  if (!running()) return;
  const std::vector<int> before = holders(first_plan_, plan_);
  std::vector<int> after = before;
  for (const Copy& copy : copies_) {
    const auto piece = static_cast<size_t>(copy.piece);
    const bool home = copy.to == first_plan_.stages[piece].node && copy.to != before[piece];
    if (!copy.whole || copy.done + timing_.behind + 1 < next_step_ || !usable(copy.to, now)) continue;
    if (home || (before[piece] >= 0 && at(before[piece]).leaving)) after[piece] = copy.to;
  }
  ChainPlan plan = plan_of(first_plan_, after);
  const int n_layers = first_plan_.stages.empty() ? 0 : first_plan_.stages.back().layers.end;
  if (after == before || !check(plan, n_layers, static_cast<int>(nodes_.size()))) return;
  for (size_t i = 0; i < after.size(); ++i) moves_ += after[i] != before[i] ? 1 : 0;
  go_on_with(std::move(plan), now);
}

void ChainOwner::heard(int node) { at(node).asked = false; }

void ChainOwner::lost(int node, Time now) {
  Node& gone = at(node);
  if (gone.lost) return;
  if (gone.connected) act(Kind::kDisconnect, node);
  gone = {.since = now, .lost = true, .leaving = gone.leaving, .second_chance = gone.second_chance, .pinged = {}};
  std::erase_if(copies_, [&](const Copy& copy) { return copy.to == node; });
  if (phase_ == Phase::kIdle || !stage_of(node)) return;
  std::vector<bool> alive;
  for (int each = 0; each < static_cast<int>(nodes_.size()); ++each) alive.push_back(usable(each, now));
  for (const PlannedStage& stage : plan_.stages)
    if (stage.node != node && at(stage.node).leaving) alive[static_cast<size_t>(stage.node)] = true;  // not gone yet
  ++losses_;
  go_on_with(without_lost(plan_, alive), now);
}

void ChainOwner::lost_next(int node, Time now) {
  const int next = stage_of(node) ? next_node(node) : -1;
  if (next >= 0) lost(next, now);
}

uint64_t ChainOwner::post(int rows, Time now) {
  CHECK(running() && flying_.size() < kWindow);
  const uint64_t step = next_step_++;
  flying_.push_back({.step = step, .sent = now, .wait = timing_.resend, .rows = rows, .begun = now});
  act(Kind::kSend, -1, step);
  return step;
}

void ChainOwner::ran(int node, uint64_t epoch, uint64_t done, Time busy, Time now) {
  Node& is = at(node);
  is.round_trips[is.n_round_trips++ % is.round_trips.size()] = now - is.pinged;
  if (epoch == epoch_) is.ran = done, is.busy = busy;
}

bool ChainOwner::answered(uint64_t epoch, uint64_t step, Time now) {
  if (epoch != epoch_ || !running()) return false;
  const auto found = std::ranges::find(flying_, step, &Flying::step);
  if (found == flying_.end() || found->answered) return false;  // it came twice
  found->answered = true;
  const bool wanted = !found->again;
  for (; !flying_.empty() && flying_.front().answered; flying_.pop_front()) {
    const Flying& done = flying_.front();
    if (done.rows > 0) took(done.rows, now - std::max(done.begun, answered_at_), now);
    answered_at_ = now;
    if (!done.again) act(Kind::kDeliver, -1, done.step);
  }
  return wanted;
}

// What a step of so many rows takes at most, by what steps took, or else by how long its stages took to warm up; a long time if that is
// not known either. Rows take no longer than each alone, and no less time than fewer of them.
Time ChainOwner::usual(int rows) const {
  const auto wanted = static_cast<size_t>(std::bit_width(static_cast<unsigned>(rows)));
  if (took_[wanted] > Time(0)) return took_[wanted];
  const std::optional<Time> computing = by_warm_up(rows);
  for (size_t i = wanted + 1; i < took_.size(); ++i) {
    if (took_[i] == Time(0)) continue;
    if (!computing) return took_[i];
    const Time of_links = std::max(Time(0), took_[i] - *by_warm_up(1 << (i - 1)));
    return std::min(took_[i], *computing + of_links);
  }
  for (size_t i = wanted; i-- > 0;)
    if (took_[i] > Time(0)) return took_[i] * (1 << (wanted - i));
  return computing.value_or(timing_.loading);
}

std::optional<Time> ChainOwner::by_warm_up(int rows) const {
  std::chrono::microseconds all{};
  for (const PlannedStage& stage : plan_.stages) {
    const auto layer = warm_up_[static_cast<size_t>(stage.node)];
    if (layer.count() == 0) return std::nullopt;
    all += layer * (stage.layers.end - stage.layers.first);
  }
  return std::chrono::ceil<Time>(2 * all * std::max(rows, kWarmUpRows) / kWarmUpRows);  // others are at work beside
}

bool ChainOwner::too_long(int rows, Time took) const { return took > 4 * std::max(usual(rows), timing_.not_slow); }

void ChainOwner::took(int rows, Time time, Time now) {
  const Time before = usual(rows);
  if (too_long(rows, time)) {
    if (!slow_since_) slow_since_ = watched_ = now - time;
  } else if (slow_since_ && now - *slow_since_ > timing_.not_slow) {  // one in time is half an excuse
    slow_since_ = now - (now - *slow_since_) / 2;
    for (Node& node : nodes_) node.busy_before += (node.busy - node.busy_before) / 2, node.blamed /= 2;
  } else {
    forget_slow();
  }
  // The first that is seen is what it takes, unless a stage was slow: links are not known before.
  const auto late = [&](const PlannedStage& stage) { return answers_late(stage.node, now); };
  if (slow_since_ && now - *slow_since_ < timing_.usual_by_now &&
      (has_seen_ || at_work(now) || std::ranges::any_of(plan_.stages, late)))
    return;
  // Later it is learnt little by little, so that nobody gets slower unnoticed.
  const Time at_most = !has_seen_ || slow_since_ ? time : std::max(before * 5 / 4, timing_.not_slow);
  Time& most = took_[std::bit_width(static_cast<unsigned>(rows))];
  most = std::max(most * 31 / 32, std::min(time, at_most));
  has_seen_ = true;
  if (slow_since_) forget_slow();
}

void ChainOwner::forget_slow() {
  slow_since_.reset();
  for (Node& node : nodes_)
    node.busy_before = node.busy, node.blamed = {}, node.round_trip_before = median(node.round_trips);
}

// By the median of pings, the one under way among them: lost frames make few of them late, a machine without time all of them.
bool ChainOwner::answers_late(int node, Time now) const {
  const Node& is = nodes_[static_cast<size_t>(node)];
  auto round_trips = is.round_trips;
  Time& oldest = round_trips[is.n_round_trips % round_trips.size()];
  if (is.asked) oldest = std::max(oldest, now - is.pinged);
  return median(round_trips) > std::max(timing_.late_pong, 3 * is.round_trip_before);
}

bool ChainOwner::has_copy(int node) const {
  const std::vector<int> has = holders(first_plan_, plan_);
  for (size_t piece = 0; piece < has.size(); ++piece)
    if (has[piece] == node && std::ranges::none_of(copies_, [&](const Copy& copy) {
          return std::cmp_equal(copy.piece, piece) && copy.whole && copy.done + 1 >= oldest();
        }))
      return false;
  return true;
}

// The stage whose layers were at work for half of the time that steps have been taking too long (an eighth, if it answers late, too), and
// far longer than any other's: where all have become slow none is to blame.
const PlannedStage* ChainOwner::at_work(Time now) const {
  const auto busy = [&](const PlannedStage& stage) {
    const Node& node = nodes_[static_cast<size_t>(stage.node)];
    return node.busy - node.busy_before;
  };
  for (const PlannedStage& stage : plan_.stages)
    if ((answers_late(stage.node, now) ? 8 : 2) * busy(stage) >= now - *slow_since_ &&
        std::ranges::all_of(plan_.stages, [&](const PlannedStage& other) {
          return &other == &stage || busy(stage) >= 3 * busy(other);
        }))
      return &stage;
  return nullptr;
}

// Whose layers are at steps that take too long, or who keeps them waiting: the first stage that has not done the oldest one.
void ChainOwner::watch_slow(Time now) {
  if (flying_.empty() || flying_.front().rows == 0) return;
  const Flying& oldest = flying_.front();
  const Time begun = std::max(oldest.begun, answered_at_);
  if (!slow_since_ && too_long(oldest.rows, now - begun)) slow_since_ = watched_ = begun;
  if (!slow_since_) return;
  const auto behind =
      std::ranges::find_if(plan_.stages, [&](const PlannedStage& stage) { return at(stage.node).ran < oldest.step; });
  if (behind != plan_.stages.end()) at(behind->node).blamed += now - std::max(begun, watched_);
  watched_ = now;
  const Time since = now - *slow_since_;
  const PlannedStage* slow = since >= timing_.slow_at_work ? at_work(now) : nullptr;
  if (!slow && (has_seen_ || oldest.rows <= kWarmUpRows))  // many rows take a slow link its time
    for (const PlannedStage& stage : plan_.stages)
      if (5 * at(stage.node).blamed >= 4 * since && answers_late(stage.node, now) &&
          since >= (has_copy(stage.node) ? 1 : 2) * timing_.slow)
        slow = &stage;
  if (!slow) return;
  const int node = slow->node;
  const Time longer = std::max(2 * at(node).second_chance, timing_.second_chance);
  why_slow_ = fmt::format(
      "for {} ms steps have taken far longer than {} ms; its layers were at work for {} ms of that, and it answers "
      "pings after {} ms",
      since.count(), usual(oldest.rows).count(), (at(node).busy - at(node).busy_before).count(),
      median(at(node).round_trips).count());
  ++slow_;
  lost(node, now);  // another plan stands
  at(node).second_chance = longer;
}

void ChainOwner::tick(Time now) {
  if (phase_ == Phase::kIdle) return;
  const uint64_t epoch = epoch_;
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
    Node& node = at(i);
    const bool staged = stage_of(i) != nullptr;
    if (!staged && !node.connected) continue;
    const bool silent = node.asked && now - node.pinged >= timing_.silence;
    const bool slow = staged && !node.ready && now - node.since >= (node.connected ? timing_.loading : timing_.silence);
    if (silent || slow) lost(i, now);
    if (epoch != epoch_) return;  // another plan stands; the next tick looks at it
    if (node.connected && !node.asked && now - node.pinged >= timing_.heartbeat / (slow_since_ ? 4 : 1)) {
      node.asked = true;
      node.pinged = now;
      act(Kind::kPing, i);
    }
  }
  if (now - looked_ >= timing_.heartbeat) begin_copies(now);
  if (!running()) return;
  for (Flying& each : flying_) {
    if (each.answered || now - each.sent < each.wait) continue;
    each.sent = now;
    each.wait *= 2;
    act(Kind::kSend, -1, each.step);
  }
  watch_slow(now);
}

std::vector<ChainAction> ChainOwner::take_actions() { return std::exchange(actions_, {}); }

}  // namespace hearth::cluster
