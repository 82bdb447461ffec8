// A grammar's stacks made deterministic as they are met: each state is the set of all (place, stack) that a text can have
// led to. Stacks are shared trees, sets are found again by their contents, and every step from a state by a class of bytes is
// remembered, so a text is mostly read by table. Inside this room only; for one thread at a time.
//
// Where a set or a step would grow too large, possibilities are dropped: then fewer texts are allowed, never a wrong one.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/grammar_tables.h"

namespace hearth {

class GrammarMachine {
 public:
  using State = int32_t;
  static constexpr State kDead = 0;

  explicit GrammarMachine(const GrammarTables& tables);  // outlives the machine

  [[nodiscard]] State start() const { return start_; }
  State next(State state, uint8_t byte) { return next_by_class(state, tables_.class_of[byte]); }
  State next_by_class(State state, uint8_t byte_class) {
    const State known = steps_[static_cast<size_t>(state) * n_classes_ + byte_class];
    return known != kUnknown ? known : step(state, byte_class);
  }
  // The text so far is one of the language.
  [[nodiscard]] bool complete(State state) const { return sets_[static_cast<size_t>(state)].complete; }
  [[nodiscard]] size_t n_states() const { return sets_.size(); }
  [[nodiscard]] const GrammarTables& tables() const { return tables_; }

  // Grows with the work done; what fills a mask stops when it has grown too much.
  [[nodiscard]] uint64_t work() const { return work_; }
  // Possibilities were dropped.
  [[nodiscard]] bool dropped() const { return dropped_; }
  // Memory taken, about.
  [[nodiscard]] size_t n_bytes() const;

 private:
  static constexpr State kUnknown = -1;
  // A place in the grammar with what follows after the end of its rule.
  struct Place {
    uint32_t state, stack;
    auto operator<=>(const Place&) const = default;
  };
  struct Frame {
    uint32_t state, count, below, depth;
  };
  struct Set {
    uint32_t first, n;
    bool complete;
  };
  struct Visit {
    uint32_t state, stack, count;
    bool operator==(const Visit&) const = default;
  };

  State step(State state, uint8_t byte_class);
  void visit(Visit at);
  void visit_loop(const Visit& at);
  void close();
  State intern();
  uint32_t push(uint32_t state, uint32_t count, uint32_t below);
  bool first_visit(const Visit& at);

  const GrammarTables& tables_;
  size_t n_classes_;
  State start_ = kDead;
  std::vector<Frame> frames_;                             // 0: the bottom
  std::unordered_multimap<uint64_t, uint32_t> frame_of_;  // by hash
  std::vector<Set> sets_;                                 // 0: dead
  std::vector<Place> places_;                             // of all sets, those that read bytes
  std::unordered_multimap<uint64_t, State> set_of_;
  std::vector<State> steps_;  // by state and class
  uint64_t work_ = 0;

  // Of one step.
  std::vector<Visit> rest_;
  std::vector<Place> reached_;
  bool reached_end_ = false;
  bool dropped_ = false;
  struct Slot {
    Visit visit;
    uint64_t step = 0;
  };
  std::vector<Slot> visited_;  // hash table; what an earlier step wrote counts as empty
  size_t n_visited_ = 0;
  uint64_t step_ = 0;
};

}  // namespace hearth
