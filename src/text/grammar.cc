#include "text/grammar.h"

#include <algorithm>
#include <bitset>

#include "base/check.h"
#include "base/limits.h"
#include "text/grammar_builder.h"
#include "text/grammar_machine.h"
#include "text/grammar_tables.h"

namespace hearth {
namespace {

// Links are followed to where they lead. An open end that was not used, or a circle of links only (an empty loop), leads nowhere
// and becomes a state that reads nothing.
void resolve_links(GrammarTables& tables) {
  const auto resolve = [&](uint32_t state) {
    const auto is_link = [&](uint32_t at) { return tables.states[at].op == GrammarOp::kLink; };
    uint32_t end = state;
    size_t n_steps = 0;
    while (is_link(end) && tables.states[end].a != kNoBound && ++n_steps <= tables.states.size()) {
      end = tables.states[end].a;
    }
    if (is_link(end)) tables.states[end] = {GrammarOp::kBytes, 0, 0};
    while (state != end && is_link(state)) {
      const uint32_t next = tables.states[state].a;
      tables.states[state].a = end;  // so that long chains are followed once
      state = next;
    }
    return end;
  };
  for (GrammarEdge& edge : tables.edges) edge.target = resolve(edge.target);
  for (uint32_t& target : tables.targets) target = resolve(target);
  for (GrammarLoop& loop : tables.loops) loop.entry = resolve(loop.entry);
  for (size_t i = 0; i < tables.states.size(); ++i) {
    GrammarState state = tables.states[i];
    if (state.op == GrammarOp::kCall) state.a = resolve(state.a);
    if (state.op == GrammarOp::kCall || state.op == GrammarOp::kLoop) state.b = resolve(state.b);
    if (state.op != GrammarOp::kLink) tables.states[i] = state;
  }
  tables.start = resolve(tables.start);
}

// What holds for a state because it holds for those it leads to, found from the ends of rules backwards.
class Analysis {
 public:
  explicit Analysis(const GrammarTables& tables) : tables_(tables), first_user_(tables.states.size() + 2) {
    for_each_link([&](uint32_t, uint32_t to) { ++first_user_[to + 2]; });
    for (size_t i = 1; i < first_user_.size(); ++i) first_user_[i] += first_user_[i - 1];
    users_.resize(first_user_.back());
    for_each_link([&](uint32_t from, uint32_t to) { users_[first_user_[to + 1]++] = from; });
  }

  // Per state, whether the end of its rule can be reached without a byte.
  std::vector<bool> nullable() const {
    std::vector<bool> is(tables_.states.size());
    std::vector<uint32_t> rest;
    const auto found = [&](uint32_t state) {
      if (is[state]) return;
      is[state] = true;
      rest.push_back(state);
    };
    for (uint32_t i = 0; i < tables_.states.size(); ++i) {
      if (tables_.states[i].op == GrammarOp::kReturn) found(i);
    }
    while (!rest.empty()) {
      const uint32_t done = rest.back();
      rest.pop_back();
      for (const uint32_t user : users_of(done)) {
        const GrammarState& state = tables_.states[user];
        const bool now =
            state.op == GrammarOp::kSplit || (state.op == GrammarOp::kCall && is[state.a] && is[state.b]) ||
            (state.op == GrammarOp::kLoop && (loop(state).min == 0 || is[loop(state).entry]) && is[state.b]);
        if (now) found(user);
      }
    }
    return is;
  }

  // GrammarTables::need, by Dijkstra's method (Knuth's form of it for grammars, 1977) with a list per depth.
  std::vector<uint32_t> need() const {
    std::vector<uint32_t> need(tables_.states.size(), kNoBound);
    std::vector<std::vector<uint32_t>> at(limits::kGrammarStackDepth + 1);
    const auto found = [&](uint32_t state, uint32_t depth) {
      if (depth >= need[state] || depth >= at.size()) return;
      need[state] = depth;
      at[depth].push_back(state);
    };
    const auto deeper = [](uint32_t depth) { return depth == kNoBound ? kNoBound : depth + 1; };
    for (uint32_t i = 0; i < tables_.states.size(); ++i) {
      if (tables_.states[i].op == GrammarOp::kReturn) found(i, 0);
    }
    for (uint32_t depth = 0; depth < at.size(); ++depth) {
      for (size_t i = 0; i < at[depth].size(); ++i) {
        const uint32_t done = at[depth][i];
        if (need[done] != depth) continue;
        for (const uint32_t user : users_of(done)) {
          const GrammarState& state = tables_.states[user];
          uint32_t cost = depth;
          if (state.op == GrammarOp::kCall) cost = std::max(deeper(need[state.a]), need[state.b]);
          if (state.op == GrammarOp::kLoop) {
            cost = loop(state).min == 0 ? need[state.b] : std::max(deeper(need[loop(state).entry]), need[state.b]);
          }
          found(user, cost);
        }
      }
    }
    return need;
  }

 private:
  const GrammarLoop& loop(const GrammarState& state) const { return tables_.loops[state.a]; }
  std::span<const uint32_t> users_of(uint32_t state) const {
    return std::span(users_).subspan(first_user_[state], first_user_[state + 1] - first_user_[state]);
  }
  template <class Visit>
  void for_each_link(Visit visit) const {
    for (uint32_t i = 0; i < tables_.states.size(); ++i) {
      const GrammarState& state = tables_.states[i];
      if (state.op == GrammarOp::kBytes) {
        for (uint32_t e = state.a; e < state.a + state.b; ++e) visit(i, tables_.edges[e].target);
      } else if (state.op == GrammarOp::kSplit) {
        for (uint32_t t = state.a; t < state.a + state.b; ++t) visit(i, tables_.targets[t]);
      } else if (state.op == GrammarOp::kCall || state.op == GrammarOp::kLoop) {
        visit(i, state.op == GrammarOp::kCall ? state.a : loop(state).entry);
        visit(i, state.b);
      }
    }
  }

  const GrammarTables& tables_;
  std::vector<uint32_t> first_user_, users_;
};

// The rules (by first state) that are read at a rule's very beginning.
std::vector<uint32_t> rules_at_beginning(const GrammarTables& tables, const std::vector<bool>& nullable, uint32_t entry,
                                         std::vector<uint32_t>& seen_by) {
  std::vector<uint32_t> found;
  std::vector<uint32_t> rest{entry};
  while (!rest.empty()) {
    const uint32_t at = rest.back();
    rest.pop_back();
    if (seen_by[at] == entry) continue;
    seen_by[at] = entry;
    const GrammarState& state = tables.states[at];
    if (state.op == GrammarOp::kSplit) {
      rest.insert(rest.end(), tables.targets.begin() + state.a, tables.targets.begin() + state.a + state.b);
    } else if (state.op == GrammarOp::kCall || state.op == GrammarOp::kLoop) {
      const bool is_loop = state.op == GrammarOp::kLoop;
      const uint32_t callee = is_loop ? tables.loops[state.a].entry : state.a;
      found.push_back(callee);
      if (nullable[callee] || (is_loop && tables.loops[state.a].min == 0)) rest.push_back(state.b);
    }
  }
  return found;
}

// A rule that comes back to itself before any byte was read would be entered without end.
Result<void> refuse_left_recursion(const GrammarTables& tables, const std::vector<bool>& nullable) {
  std::vector<uint32_t> entries{tables.start};
  for (const GrammarState& state : tables.states) {
    if (state.op == GrammarOp::kCall) entries.push_back(state.a);
  }
  for (const GrammarLoop& loop : tables.loops) entries.push_back(loop.entry);
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());

  std::vector<std::vector<uint32_t>> callees(entries.size());
  std::vector<uint32_t> n_callers(entries.size());
  std::vector<uint32_t> seen_by(tables.states.size(), kNoBound);
  for (size_t i = 0; i < entries.size(); ++i) {
    for (const uint32_t callee : rules_at_beginning(tables, nullable, entries[i], seen_by)) {
      const auto index = std::lower_bound(entries.begin(), entries.end(), callee) - entries.begin();
      callees[i].push_back(static_cast<uint32_t>(index));
      ++n_callers[static_cast<size_t>(index)];
    }
  }
  std::vector<uint32_t> rest;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    if (n_callers[i] == 0) rest.push_back(i);
  }
  size_t n_done = 0;
  for (; n_done < rest.size(); ++n_done) {
    for (const uint32_t callee : callees[rest[n_done]]) {
      if (--n_callers[callee] == 0) rest.push_back(callee);
    }
  }
  if (n_done < entries.size()) {
    return fail(Code::kInvalidArgument,
                "left recursion: {} rules begin with themselves; write the repetition with * or +",
                entries.size() - n_done);
  }
  return {};
}

// What may be empty needs no minimum, and a bounded number of it only in small numbers: each count would be tried.
Result<void> settle_loops(GrammarTables& tables, const std::vector<bool>& nullable) {
  constexpr uint32_t kEmptyRepetitions = 256;
  for (GrammarLoop& loop : tables.loops) {
    if (!nullable[loop.entry]) continue;
    loop.min = 0;
    if (loop.max != kNoBound && loop.max > kEmptyRepetitions) {
      return fail(Code::kLimit, "up to {} repetitions of something that may be empty; the limit is {}", loop.max,
                  kEmptyRepetitions);
    }
  }
  return {};
}

// The borders of classes that every grammar has, so that the characters of plain text (token_trie.h) are whole classes.
constexpr uint8_t kFixedBorders[] = {0x20, 0x22, 0x23, 0x5C, 0x5D, 0x7F, 0x80, 0x90, 0xA0, 0xC0,
                                     0xC2, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5};

void find_classes(GrammarTables& tables) {
  std::bitset<257> border;
  for (const uint8_t byte : kFixedBorders) border.set(byte);
  for (const GrammarEdge& edge : tables.edges) {
    border.set(edge.low);
    border.set(size_t{edge.high} + 1);
  }
  tables.byte_of.assign(1, 0);
  for (size_t byte = 1; byte < 256; ++byte) {
    if (border[byte]) tables.byte_of.push_back(static_cast<uint8_t>(byte));
    tables.class_of[byte] = static_cast<uint8_t>(tables.byte_of.size() - 1);
  }
}

}  // namespace

Result<Grammar::Shared> GrammarBuilder::finish(Rule root) {
  if (too_large()) {
    return fail(Code::kLimit, "the grammar needs more than {} states", limits::kGrammarStates);
  }
  for (GrammarLoop& loop : tables_.loops) loop.entry = rules_[loop.entry].entry;
  tables_.start = rules_[root].entry;
  resolve_links(tables_);
  const Analysis analysis(tables_);
  const std::vector<bool> nullable = analysis.nullable();
  TRY(settle_loops(tables_, nullable));
  TRY(refuse_left_recursion(tables_, nullable));
  tables_.need = analysis.need();
  if (tables_.need[tables_.start] == kNoBound) {
    return fail(Code::kInvalidArgument,
                "no text can satisfy this: it contradicts itself, never ends, or nests deeper than {}",
                limits::kGrammarStackDepth);
  }
  find_classes(tables_);
  return std::make_shared<const Grammar>(std::move(tables_));
}

Grammar::Grammar(GrammarTables tables) : tables_(std::make_unique<const GrammarTables>(std::move(tables))) {}
Grammar::~Grammar() = default;

namespace {

GrammarMachine::State run(const GrammarTables& tables, std::string_view text, GrammarMachine& machine) {
  (void)tables;
  GrammarMachine::State state = machine.start();
  for (const char c : text) {
    state = machine.next(state, static_cast<uint8_t>(c));
    if (state == GrammarMachine::kDead) break;
  }
  return state;
}

}  // namespace

bool Grammar::matches(std::string_view text) const {
  GrammarMachine machine(*tables_);
  return machine.complete(run(*tables_, text, machine));
}

bool Grammar::matches_prefix(std::string_view text) const {
  GrammarMachine machine(*tables_);
  return run(*tables_, text, machine) != GrammarMachine::kDead;
}

}  // namespace hearth
