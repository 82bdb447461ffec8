// Grammars from texts and from grammars.
#include <algorithm>

#include "base/limits.h"
#include "text/grammar_builder.h"

namespace hearth {
namespace {

using Part = GrammarBuilder::Part;

Part part_of(GrammarBuilder& builder, const Grammar& grammar) { return builder.call(builder.import(grammar.tables())); }

// Searches for several texts at once (Aho and Corasick 1975).
class Search {
 public:
  explicit Search(std::span<const Grammar::Triggered> triggered) {
    for (size_t i = 0; i < triggered.size(); ++i) {
      size_t at = 0;
      for (const char c : triggered[i].trigger) {
        int& next = nodes_[at].next[static_cast<uint8_t>(c)];
        if (next < 0) {
          next = static_cast<int>(nodes_.size());
          nodes_.emplace_back();  // `next` is of no use from here
          at = nodes_.size() - 1;
          nodes_[at].control = triggered[i].trigger[0] == Grammar::kControlMark;
        } else {
          at = static_cast<size_t>(next);
        }
      }
      nodes_[at].found.push_back(i);
    }
    std::vector<size_t> order{0};
    for (size_t i = 0; i < order.size(); ++i) complete(order[i], order);
  }

  struct Node {
    Node() { next.fill(-1); }
    std::array<int, 256> next{};
    bool control = false;       // inside the text of a control token
    size_t fall = 0;            // the node of the longest proper end of this one's text
    std::vector<size_t> found;  // triggers that end here
  };
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }

 private:
  void complete(size_t at, std::vector<size_t>& order) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const size_t fall = at == 0 ? 0 : static_cast<size_t>(nodes_[nodes_[at].fall].next[byte]);
      int& next = nodes_[at].next[byte];
      if (next < 0) {
        next = at == 0 ? 0 : static_cast<int>(fall);
        continue;
      }
      Node& child = nodes_[static_cast<size_t>(next)];
      child.fall = fall;
      const std::vector<size_t>& inherited = nodes_[fall].found;
      child.found.insert(child.found.end(), inherited.begin(), inherited.end());
      order.push_back(static_cast<size_t>(next));
    }
  }

  std::vector<Node> nodes_{1};
};

}  // namespace

Result<Grammar::Shared> Grammar::from_choices(std::span<const std::string> choices) {
  size_t n_bytes = 0;
  for (const std::string& choice : choices) n_bytes += choice.size();
  if (choices.empty()) return fail(Code::kInvalidArgument, "no choices to choose from");
  if (choices.size() > limits::kGrammarChoices || n_bytes > limits::kGrammarBytes) {
    return fail(Code::kLimit, "{} choices of {} bytes, the limits are {} and {}", choices.size(), n_bytes,
                limits::kGrammarChoices, limits::kGrammarBytes);
  }
  GrammarBuilder builder;
  return builder.finish(builder.choices({choices.begin(), choices.end()}));
}

Result<Grammar::Shared> Grammar::literal(std::string_view text) {
  if (text.size() > limits::kGrammarBytes) {
    return fail(Code::kLimit, "a literal of {} bytes, the limit is {}", text.size(), limits::kGrammarBytes);
  }
  GrammarBuilder builder;
  return builder.finish(builder.literal(text));
}

Result<Grammar::Shared> Grammar::sequence(std::span<const Shared> parts) {
  GrammarBuilder builder;
  Part all = builder.empty();
  for (const Shared& part : parts) builder.append(all, part_of(builder, *part));
  return builder.finish(all);
}

Result<Grammar::Shared> Grammar::any_of(std::span<const Shared> alternatives) {
  GrammarBuilder builder;
  std::vector<Part> parts;
  for (const Shared& alternative : alternatives) parts.push_back(part_of(builder, *alternative));
  return builder.finish(builder.either(parts));
}

Result<Grammar::Shared> Grammar::repeat(const Shared& item, uint32_t min, uint32_t max, const Shared& separator) {
  if (max != 0 && min > max) return fail(Code::kInvalidArgument, "at least {} and at most {} repetitions", min, max);
  GrammarBuilder builder;
  const GrammarBuilder::Rule one = builder.import(item->tables());
  Part more = builder.call(one);
  if (separator) {
    Part both = part_of(builder, *separator);
    builder.append(both, more);
    more = both;
  }
  Part all = builder.call(one);
  builder.append(all, builder.repeat(more, min == 0 ? 0 : min - 1, max == 0 ? kNoBound : max - 1));
  return builder.finish(min == 0 ? builder.optional(all) : all);
}

Result<Grammar::Shared> Grammar::after_trigger(std::span<const Triggered> triggered) {
  size_t n_bytes = 0;
  for (const Triggered& each : triggered) {
    if (each.trigger.empty()) return fail(Code::kInvalidArgument, "a trigger is empty");
    n_bytes += each.trigger.size();
  }
  constexpr size_t kTriggerBytes = 4096;  // of all together
  if (n_bytes > kTriggerBytes) {
    return fail(Code::kLimit, "triggers of {} bytes, the limit is {}", n_bytes, kTriggerBytes);
  }
  GrammarBuilder builder;
  const Search search(triggered);
  const Part all{builder.new_state(), builder.new_state()};
  std::vector<GrammarBuilder::Rule> then;
  for (const Triggered& each : triggered) then.push_back(builder.import(each.then->tables()));
  std::vector<uint32_t> states{all.in};
  while (states.size() < search.nodes().size()) states.push_back(builder.new_state());
  for (size_t i = 0; i < states.size(); ++i) {
    const Search::Node& node = search.nodes()[i];
    if (!node.found.empty()) {
      std::vector<Part> parts;
      for (const size_t found : node.found) parts.push_back(builder.call(then[found]));
      Part begun{states[i], states[i]};
      builder.append(begun, builder.either(parts));
      builder.append(begun, {all.out, all.out});
      continue;
    }
    std::vector<GrammarEdge> edges;
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto next = static_cast<size_t>(node.next[byte]);
      const bool in_control = node.control || static_cast<char>(byte) == kControlMark;
      if (in_control && !search.nodes()[next].control) continue;  // no control token but those of triggers
      const auto low = static_cast<uint8_t>(byte);
      const bool goes_on = !edges.empty() && edges.back().target == states[next] && edges.back().high + 1 == low;
      if (!goes_on) edges.push_back({low, low, states[next]});
      edges.back().high = low;
    }
    const uint32_t reading = builder.new_state();
    builder.set_edges(reading, edges);
    builder.set_split(states[i], std::array{reading, all.out});
  }
  return builder.finish(all);
}

}  // namespace hearth
