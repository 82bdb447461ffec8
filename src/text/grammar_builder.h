// Builds grammars from parts. A part is an automaton with one beginning and one open end; each is used once. Inside this
// room only.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/grammar.h"
#include "text/grammar_tables.h"

namespace hearth {

// Code points, inclusive.
struct CharRange {
  char32_t low = 0, high = 0;
  bool operator==(const CharRange&) const = default;
};
using CharSet = std::vector<CharRange>;
inline constexpr char32_t kLastCodePoint = 0x10FFFF;
// Sorted, merged, without surrogates.
CharSet normal_set(CharSet set);
// What is not in it.
CharSet complement_of(const CharSet& set);

class GrammarBuilder {
 public:
  struct Part {
    uint32_t in = 0, out = 0;
  };
  using Rule = uint32_t;

  Part empty();
  Part literal(std::string_view bytes);
  // One character of the set in UTF-8; an empty set is a part that no text gets through.
  Part one_of(const CharSet& set);
  Part bytes(uint8_t low, uint8_t high);
  Part either(std::span<const Part> parts);
  Part sequence(std::span<const Part> parts);
  void append(Part& part, Part next);
  // max kNoBound: no bound.
  Part repeat(Part part, uint32_t min, uint32_t max);
  Part optional(Part part) { return repeat(part, 0, 1); }
  // One of the texts, by a trie.
  Part choices(std::vector<std::string> texts);
  // Texts that are in each language that is demanded and in none of those that are not; the languages are small ones, and one
  // at least is demanded. `work` grows with the work done, up to a limit that all that share it have together. kLimit.
  struct Demand {
    Grammar::Shared language;
    bool inside = true;
  };
  Result<Part> all_of(std::span<const Demand> demands, uint64_t& work);
  // A state whose edges lead into others that are made in the meantime.
  uint32_t new_state() { return add({GrammarOp::kLink, kNoBound, 0}); }
  void set_edges(uint32_t state, std::span<const GrammarEdge> edges);
  void set_split(uint32_t state, std::span<const uint32_t> targets);

  // Rules may be called before they are defined.
  Rule declare();
  void define(Rule rule, Part part);
  Part call(Rule rule);
  // All of a grammar, as a rule.
  Rule import(const GrammarTables& tables);

  // Checks the whole: its size, left recursion, that `root` can end. kLimit, kInvalidArgument.
  Result<Grammar::Shared> finish(Rule root);
  Result<Grammar::Shared> finish(Part part);
  // Over the limit of states already; parsers ask now and then.
  [[nodiscard]] bool too_large() const;

 private:
  uint32_t add(GrammarState state);
  void link(uint32_t from, uint32_t to) { tables_.states[from].a = to; }
  void add_utf8(char32_t low, char32_t high, uint32_t out, std::vector<GrammarEdge>& edges);

  GrammarTables tables_;
  struct RuleStates {
    uint32_t entry;
    bool defined;
  };
  std::vector<RuleStates> rules_;
};

// What the parsers of GBNF and of regular expressions share: alternatives of sequences in groups, without recursion.
class GroupStack {
 public:
  struct Item {
    GrammarBuilder::Part part;
    uint32_t min = 1, max = 1;  // repetition
    uint32_t chars_min = 0;     // characters of one repetition
    uint32_t chars_max = 0;
  };
  explicit GroupStack(GrammarBuilder& builder) : builder_(&builder) { groups_.emplace_back(); }
  void append(Item item) {
    groups_.back().sequence.push_back(item);
    groups_.back().repeated = false;
  }
  // The item that a quantifier would repeat; null at the beginning of a sequence or after a quantifier.
  Item* last();
  void repeat_last(uint32_t min, uint32_t max);
  void alternative();
  // kLimit.
  Result<void> open();
  // False if no group is open.
  bool close();
  [[nodiscard]] size_t depth() const { return groups_.size() - 1; }
  [[nodiscard]] bool at_beginning() const { return groups_.back().sequence.empty(); }
  // The items of the outermost level, if it has one alternative only.
  std::vector<Item>* only_sequence();
  // The whole; needs depth() 0. Only once.
  Item finish();

 private:
  struct Group {
    std::vector<Item> sequence, alternatives;
    bool repeated = false;  // the last item has its quantifier
  };
  Item joined(const std::vector<Item>& sequence);
  Item finish_group(Group& group);
  GrammarBuilder* builder_;
  std::vector<Group> groups_;
};

// Reads {m}, {m,} or {m,n} at `at`, which is behind the brace, and moves `at` behind its end. Nothing if it is no such thing.
struct Repetition {
  uint32_t min = 0, max = 0;
  bool too_large = false;  // over the limit or m > n
};
std::optional<Repetition> read_repetition(std::string_view text, size_t& at);
// Exactly n hexadecimal digits at `at`, which is moved behind them.
std::optional<char32_t> read_hex(std::string_view text, size_t& at, size_t n);

}  // namespace hearth
