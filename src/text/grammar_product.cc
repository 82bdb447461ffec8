// Texts that are in several languages at once, and in none of others.
#include <deque>
#include <map>

#include "base/limits.h"
#include "text/grammar_builder.h"
#include "text/grammar_machine.h"

namespace hearth {
namespace {

using State = GrammarMachine::State;
using Tuple = std::vector<State>;

// The machines of all, read side by side: each tuple of their states becomes a state.
class Product {
 public:
  Product(GrammarBuilder& builder, std::span<const GrammarBuilder::Demand> demands)
      : builder_(builder), demands_(demands), out_(builder.new_state()) {
    Tuple start;
    for (const auto& demand : demands) start.push_back(machines_.emplace_back(demand.language->tables()).start());
    begin_ = state_of(start);
    for (size_t byte = 0; byte < 256; ++byte) {
      bool is_new = byte == 0;
      for (const GrammarMachine& machine : machines_) {
        const auto& class_of = machine.tables().class_of;
        is_new = is_new || class_of[byte] != class_of[byte - 1];
      }
      if (is_new) begins_.push_back(static_cast<uint8_t>(byte));
    }
  }

  Result<GrammarBuilder::Part> part(uint64_t& work) {
    constexpr size_t kStates = 8192;
    constexpr uint64_t kWork = 4'000'000;  // of the machines: some 100 ms
    uint64_t done = 0;
    while (!rest_.empty()) {
      const auto known = rest_.front();
      rest_.pop_front();
      expand(known->first, known->second);
      work -= done;
      done = known_.size() * begins_.size();
      for (const GrammarMachine& machine : machines_) done += machine.dropped() ? kWork : machine.work();
      work += done;
      if (known_.size() > kStates || work >= kWork || builder_.too_large()) {
        return fail(Code::kLimit, "patterns that have to hold together need more than {} states", kStates);
      }
    }
    return GrammarBuilder::Part{begin_, out_};
  }

 private:
  // kNoBound where no text can satisfy all any more.
  uint32_t state_of(const Tuple& tuple) {
    for (size_t i = 0; i < tuple.size(); ++i) {
      if (demands_[i].inside && tuple[i] == GrammarMachine::kDead) return kNoBound;
    }
    const auto [found, is_new] = known_.try_emplace(tuple, 0);
    if (is_new) {
      found->second = builder_.new_state();
      rest_.push_back(found);
    }
    return found->second;
  }

  void expand(const Tuple& from, uint32_t state) {
    std::vector<GrammarEdge> edges;
    Tuple to(from.size());
    for (size_t i = 0; i < begins_.size(); ++i) {
      for (size_t m = 0; m < from.size(); ++m) to[m] = machines_[m].next(from[m], begins_[i]);
      const uint32_t target = state_of(to);
      if (target == kNoBound) continue;
      const auto high = static_cast<uint8_t>(i + 1 < begins_.size() ? begins_[i + 1] - 1 : 255);
      edges.push_back({begins_[i], high, target});
    }
    bool accepted = true;
    for (size_t m = 0; m < from.size(); ++m) {
      accepted = accepted && machines_[m].complete(from[m]) == demands_[m].inside;
    }
    if (!accepted) return builder_.set_edges(state, edges);
    const uint32_t reading = builder_.new_state();
    builder_.set_edges(reading, edges);
    builder_.set_split(state, std::array{reading, out_});
  }

  GrammarBuilder& builder_;
  std::span<const GrammarBuilder::Demand> demands_;
  std::deque<GrammarMachine> machines_;
  std::vector<uint8_t> begins_;  // of the ranges of bytes that no machine tells apart
  std::map<Tuple, uint32_t> known_;
  std::deque<std::map<Tuple, uint32_t>::iterator> rest_;
  uint32_t out_, begin_ = 0;
};

}  // namespace

Result<GrammarBuilder::Part> GrammarBuilder::all_of(std::span<const Demand> demands, uint64_t& work) {
  if (demands.size() == 1 && demands[0].inside) return call(import(demands[0].language->tables()));
  return Product(*this, demands).part(work);
}

}  // namespace hearth
