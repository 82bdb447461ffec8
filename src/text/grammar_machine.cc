#include "text/grammar_machine.h"

#include <algorithm>

#include "base/limits.h"

namespace hearth {
namespace {

constexpr size_t kPlacesMax = 8192;    // of one state
constexpr size_t kVisitsMax = 65'536;  // of one step

uint64_t mixed(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ (hash >> 29);
}

}  // namespace

GrammarMachine::GrammarMachine(const GrammarTables& tables)
    : tables_(tables), n_classes_(tables.byte_of.size()), frames_{{kNoBound, 0, 0, 0}}, visited_(256) {
  sets_.push_back({0, 0, false});
  steps_.assign(n_classes_, kDead);
  rest_.push_back({tables.start, 0, 0});
  close();
  start_ = intern();
}

size_t GrammarMachine::n_bytes() const {
  constexpr size_t kHashNode = 32;
  return steps_.capacity() * sizeof(State) + places_.capacity() * sizeof(Place) +
         frames_.size() * (sizeof(Frame) + kHashNode) + sets_.size() * (sizeof(Set) + kHashNode);
}

GrammarMachine::State GrammarMachine::step(State from, uint8_t byte_class) {
  const uint8_t byte = tables_.byte_of[byte_class];
  const Set set = sets_[static_cast<size_t>(from)];
  for (uint32_t i = set.first; i < set.first + set.n; ++i) {
    const Place place = places_[i];
    const GrammarState& state = tables_.states[place.state];
    for (uint32_t e = state.a; e < state.a + state.b; ++e) {
      const GrammarEdge& edge = tables_.edges[e];
      if (edge.low <= byte && byte <= edge.high) rest_.push_back({edge.target, place.stack, 0});
    }
    work_ += 1 + state.b / 8;
  }
  close();
  const State to = intern();
  steps_[static_cast<size_t>(from) * n_classes_ + byte_class] = to;
  return to;
}

// Everything that is reached from `rest_` without a byte.
void GrammarMachine::close() {
  reached_.clear();
  reached_end_ = false;
  n_visited_ = 0;
  ++step_;
  while (!rest_.empty()) {
    const Visit at = rest_.back();
    rest_.pop_back();
    if (n_visited_ >= kVisitsMax || reached_.size() >= kPlacesMax) {
      dropped_ = true;
    } else {
      visit(at);
    }
  }
  work_ += n_visited_;
}

void GrammarMachine::visit(Visit at) {
  const uint32_t need = tables_.need[at.state];
  if (need == kNoBound) return;
  if (frames_[at.stack].depth + need > limits::kGrammarStackDepth) {
    dropped_ = true;
    return;
  }
  if (!first_visit(at)) return;
  const GrammarState& state = tables_.states[at.state];
  switch (state.op) {
    case GrammarOp::kBytes:
      if (state.b > 0) reached_.push_back({at.state, at.stack});
      return;
    case GrammarOp::kSplit:
      for (uint32_t t = state.a; t < state.a + state.b; ++t) rest_.push_back({tables_.targets[t], at.stack, 0});
      return;
    case GrammarOp::kCall:
      rest_.push_back({state.a, push(state.b, 0, at.stack), 0});
      return;
    case GrammarOp::kLoop:
      return visit_loop(at);
    case GrammarOp::kReturn: {
      const Frame frame = frames_[at.stack];
      if (at.stack == 0) {
        reached_end_ = true;
      } else {
        rest_.push_back({frame.state, frame.below, frame.count});
      }
      return;
    }
    case GrammarOp::kLink:
      return;
  }
}

void GrammarMachine::visit_loop(const Visit& at) {
  const GrammarState& state = tables_.states[at.state];
  const GrammarLoop& loop = tables_.loops[state.a];
  if (at.count >= loop.min) rest_.push_back({state.b, at.stack, 0});
  if (at.count >= loop.max) return;
  // Without an upper bound, counts above the lower one are the same.
  const uint32_t count = loop.max == kNoBound ? std::min(at.count + 1, loop.min) : at.count + 1;
  rest_.push_back({loop.entry, push(at.state, count, at.stack), 0});
}

// A call at the very end of a rule leaves nothing to come back to, so lists that are written by recursion stay flat.
uint32_t GrammarMachine::push(uint32_t state, uint32_t count, uint32_t below) {
  if (tables_.states[state].op == GrammarOp::kReturn) return below;
  const uint64_t hash = mixed(mixed(mixed(0, state), count), below);
  const auto [begin, end] = frame_of_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Frame& frame = frames_[it->second];
    if (frame.state == state && frame.count == count && frame.below == below) return it->second;
  }
  const auto id = static_cast<uint32_t>(frames_.size());
  frames_.push_back({state, count, below, frames_[below].depth + 1});
  frame_of_.emplace(hash, id);
  return id;
}

bool GrammarMachine::first_visit(const Visit& at) {
  if (n_visited_ * 2 >= visited_.size()) {
    std::vector<Slot> old(visited_.size() * 4);
    old.swap(visited_);
    n_visited_ = 0;
    for (const Slot& slot : old) {
      if (slot.step == step_) first_visit(slot.visit);
    }
  }
  const size_t mask = visited_.size() - 1;
  size_t i = mixed(mixed(at.count, at.state), at.stack) & mask;
  while (visited_[i].step == step_) {
    if (visited_[i].visit == at) return false;
    i = (i + 1) & mask;
  }
  visited_[i] = {at, step_};
  ++n_visited_;
  return true;
}

GrammarMachine::State GrammarMachine::intern() {
  if (reached_.empty() && !reached_end_) return kDead;
  std::sort(reached_.begin(), reached_.end());
  uint64_t hash = mixed(reached_.size(), reached_end_ ? 1 : 0);
  for (const Place& place : reached_) hash = mixed(mixed(hash, place.state), place.stack);
  const auto [begin, end] = set_of_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const Set& set = sets_[static_cast<size_t>(it->second)];
    if (set.complete == reached_end_ && set.n == reached_.size() &&
        std::equal(reached_.begin(), reached_.end(), places_.begin() + set.first)) {
      return it->second;
    }
  }
  const auto id = static_cast<State>(sets_.size());
  sets_.push_back({static_cast<uint32_t>(places_.size()), static_cast<uint32_t>(reached_.size()), reached_end_});
  places_.insert(places_.end(), reached_.begin(), reached_.end());
  steps_.resize(steps_.size() + n_classes_, kUnknown);
  set_of_.emplace(hash, id);
  return id;
}

}  // namespace hearth
