#include "cluster/chain_owner.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hearth::cluster {

using Kind = ChainAction::Kind;

ChainOwner::ChainOwner(ChainPlan plan, int n_nodes, ChainTiming timing, uint32_t term)
    : first_plan_(plan),
      plan_(std::move(plan)),
      timing_(timing),
      nodes_(static_cast<size_t>(n_nodes)),
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
  begin_epoch(now);
}

void ChainOwner::begin_epoch(Time now) {
  ++epoch_;
  next_step_ = 1;
  flying_.clear();
  phase_ = Phase::kSettingUp;
  for (const PlannedStage& stage : plan_.stages) {
    Node& node = at(stage.node);
    node.ready = false;
    node.since = now;
    act(node.connected ? Kind::kAssign : Kind::kConnect, stage.node);
  }
  run_if_all_ready();
}

void ChainOwner::connected(int node, Time now) {
  if (at(node).lost || !stage_of(node)) return act(Kind::kDisconnect, node);
  at(node) = {.connected = true, .since = now, .pinged = now};
  act(Kind::kAssign, node);
}

void ChainOwner::ready(int node, uint64_t epoch, Time now) {
  if (epoch != epoch_ || phase_ != Phase::kSettingUp || !stage_of(node) || !at(node).connected) return;
  at(node).ready = true;
  at(node).pinged = now;
  run_if_all_ready();
}

void ChainOwner::run_if_all_ready() {
  if (!std::ranges::all_of(plan_.stages, [&](const PlannedStage& stage) { return at(stage.node).ready; })) return;
  phase_ = Phase::kRunning;
  if (!plan_.stages.empty()) act(Kind::kOpenPaths);
}

void ChainOwner::heard(int node) { at(node).asked = false; }

void ChainOwner::lost(int node, Time now) {
  Node& gone = at(node);
  if (gone.lost) return;
  if (gone.connected) act(Kind::kDisconnect, node);
  gone = {.since = now, .lost = true, .pinged = {}};
  if (phase_ == Phase::kIdle || !stage_of(node)) return;
  std::vector<bool> alive;
  for (const Node& each : nodes_) alive.push_back(!each.lost || now - each.since >= timing_.second_chance);
  const ChainPlan before = std::exchange(plan_, without_lost(plan_, alive));
  for (const PlannedStage& stage : plan_.stages) at(stage.node).lost = false;
  for (const PlannedStage& stage : before.stages)  // who has no stage any more is only a spare
    if (!stage_of(stage.node) && at(stage.node).connected) {
      act(Kind::kDisconnect, stage.node);
      at(stage.node) = {};
    }
  ++losses_;
  act(Kind::kStartOver);
  begin_epoch(now);
}

void ChainOwner::lost_next(int node, Time now) {
  const int next = stage_of(node) ? next_node(node) : -1;
  if (next >= 0) lost(next, now);
}

uint64_t ChainOwner::post(Time now) {
  CHECK(running() && flying_.size() < kWindow);
  const uint64_t step = next_step_++;
  flying_.push_back({.step = step, .answered = false, .sent = now, .wait = timing_.resend});
  act(Kind::kSend, -1, step);
  return step;
}

void ChainOwner::answered(uint64_t epoch, uint64_t step) {
  if (epoch != epoch_ || !running()) return;
  const auto found = std::ranges::find(flying_, step, &Flying::step);
  if (found == flying_.end()) return;  // it came twice
  found->answered = true;
  for (; !flying_.empty() && flying_.front().answered; flying_.pop_front())
    act(Kind::kDeliver, -1, flying_.front().step);
}

void ChainOwner::tick(Time now) {
  if (phase_ == Phase::kIdle) return;
  const uint64_t epoch = epoch_;
  for (const PlannedStage& stage : std::vector(plan_.stages)) {
    Node& node = at(stage.node);
    const bool silent = node.asked && now - node.pinged >= timing_.silence;
    const bool slow = !node.ready && now - node.since >= (node.connected ? timing_.loading : timing_.silence);
    if (silent || slow) lost(stage.node, now);
    if (epoch != epoch_) return;  // another plan stands; the next tick looks at it
    if (node.connected && !node.asked && now - node.pinged >= timing_.heartbeat) {
      node.asked = true;
      node.pinged = now;
      act(Kind::kPing, stage.node);
    }
  }
  if (!running()) return;
  for (Flying& each : flying_) {
    if (each.answered || now - each.sent < each.wait) continue;
    each.sent = now;
    each.wait *= 2;
    act(Kind::kSend, -1, each.step);
  }
}

std::vector<ChainAction> ChainOwner::take_actions() { return std::exchange(actions_, {}); }

}  // namespace hearth::cluster
