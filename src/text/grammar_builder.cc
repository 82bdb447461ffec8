#include "text/grammar_builder.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/limits.h"
#include "text/utf8.h"

namespace hearth {

CharSet normal_set(CharSet set) {
  std::sort(set.begin(), set.end(), [](const CharRange& a, const CharRange& b) { return a.low < b.low; });
  CharSet merged;
  const auto add = [&](char32_t low, char32_t high) {
    high = std::min(high, kLastCodePoint);
    if (low > high) return;
    if (!merged.empty() && low <= merged.back().high + 1) {
      merged.back().high = std::max(merged.back().high, high);
    } else {
      merged.push_back({low, high});
    }
  };
  for (const CharRange& range : set) {
    add(range.low, std::min<char32_t>(range.high, 0xD7FF));
    add(std::max<char32_t>(range.low, 0xE000), range.high);
  }
  return merged;
}

CharSet complement_of(const CharSet& set) {
  CharSet out;
  char32_t next = 0;
  for (const CharRange& range : normal_set(set)) {
    if (range.low > next) out.push_back({next, range.low - 1});
    next = range.high + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return normal_set(std::move(out));
}

uint32_t GrammarBuilder::add(GrammarState state) {
  tables_.states.push_back(state);
  return static_cast<uint32_t>(tables_.states.size() - 1);
}

bool GrammarBuilder::too_large() const { return tables_.states.size() + tables_.edges.size() > limits::kGrammarStates; }

void GrammarBuilder::set_edges(uint32_t state, std::span<const GrammarEdge> edges) {
  tables_.states[state] = {GrammarOp::kBytes, static_cast<uint32_t>(tables_.edges.size()),
                           static_cast<uint32_t>(edges.size())};
  tables_.edges.insert(tables_.edges.end(), edges.begin(), edges.end());
}

void GrammarBuilder::set_split(uint32_t state, std::span<const uint32_t> targets) {
  tables_.states[state] = {GrammarOp::kSplit, static_cast<uint32_t>(tables_.targets.size()),
                           static_cast<uint32_t>(targets.size())};
  tables_.targets.insert(tables_.targets.end(), targets.begin(), targets.end());
}

GrammarBuilder::Part GrammarBuilder::empty() {
  const uint32_t state = new_state();
  return {state, state};
}

GrammarBuilder::Part GrammarBuilder::bytes(uint8_t low, uint8_t high) {
  const Part part{new_state(), new_state()};
  const std::array edges{GrammarEdge{low, high, part.out}};
  set_edges(part.in, edges);
  return part;
}

GrammarBuilder::Part GrammarBuilder::literal(std::string_view text) {
  Part part = empty();
  for (const char c : text) append(part, bytes(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  return part;
}

void GrammarBuilder::append(Part& part, Part next) {
  link(part.out, next.in);
  part.out = next.out;
}

GrammarBuilder::Part GrammarBuilder::sequence(std::span<const Part> parts) {
  Part all = empty();
  for (const Part& part : parts) append(all, part);
  return all;
}

GrammarBuilder::Part GrammarBuilder::either(std::span<const Part> parts) {
  const Part part{new_state(), new_state()};
  std::vector<uint32_t> targets;
  for (const Part& each : parts) {
    targets.push_back(each.in);
    link(each.out, part.out);
  }
  set_split(part.in, targets);
  return part;
}

GrammarBuilder::Part GrammarBuilder::repeat(Part part, uint32_t min, uint32_t max) {
  if (min == 1 && max == 1) return part;
  if (max == 0) return empty();
  if (min == 0 && max == 1) return either(std::array{part, empty()});
  const Part all{new_state(), new_state()};
  if (max == kNoBound && min <= 1) {
    set_split(part.out, std::array{part.in, all.out});
    set_split(all.in, min == 1 ? std::vector{part.in} : std::vector{part.in, all.out});
    return all;
  }
  const Rule rule = declare();
  define(rule, part);
  tables_.loops.push_back({rule, min, max});
  tables_.states[all.in] = {GrammarOp::kLoop, static_cast<uint32_t>(tables_.loops.size() - 1), all.out};
  return all;
}

// The edges of one state that read a range of code points in UTF-8: the range is divided until in each piece every byte runs
// through a range of its own.
void GrammarBuilder::add_utf8(char32_t first, char32_t last, uint32_t out, std::vector<GrammarEdge>& edges) {
  std::vector<CharRange> rest{{first, last}};
  const auto divide_after = [&](CharRange range, char32_t at) {
    rest.push_back({at + 1, range.high});
    rest.push_back({range.low, at});
  };
  const auto divided = [&](CharRange range) {
    for (const char32_t end : {0x7F, 0x7FF, 0xFFFF}) {
      if (range.low <= end && end < range.high) return divide_after(range, end), true;
    }
    if (range.high <= 0x7F) return false;
    for (int bits = 6; bits <= 18; bits += 6) {
      const char32_t mask = (char32_t{1} << bits) - 1;
      if ((range.low & ~mask) == (range.high & ~mask)) continue;
      if ((range.low & mask) != 0) return divide_after(range, range.low | mask), true;
      if ((range.high & mask) != mask) return divide_after(range, (range.high & ~mask) - 1), true;
    }
    return false;
  };
  while (!rest.empty()) {
    const CharRange range = rest.back();
    rest.pop_back();
    if (divided(range)) continue;
    std::string low;
    std::string high;
    append_utf8(range.low, low);
    append_utf8(range.high, high);
    uint32_t target = out;
    for (size_t i = low.size(); --i > 0;) {
      const uint32_t state = new_state();
      const std::array edge{GrammarEdge{static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i]), target}};
      set_edges(state, edge);
      target = state;
    }
    edges.push_back({static_cast<uint8_t>(low[0]), static_cast<uint8_t>(high[0]), target});
  }
}

GrammarBuilder::Part GrammarBuilder::one_of(const CharSet& set) {
  const Part part{new_state(), new_state()};
  std::vector<GrammarEdge> edges;
  for (const CharRange& range : normal_set(set)) add_utf8(range.low, range.high, part.out, edges);
  set_edges(part.in, edges);
  return part;
}

GrammarBuilder::Part GrammarBuilder::choices(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  const Part part{new_state(), new_state()};
  // The texts [begin, end) share their first `depth` bytes, which led to `state`.
  struct Node {
    size_t begin, end, depth;
    uint32_t state;
  };
  std::vector<Node> rest{{0, texts.size(), 0, part.in}};
  while (!rest.empty()) {
    Node node = rest.back();
    rest.pop_back();
    if (node.begin < node.end && texts[node.begin].size() == node.depth) {  // the shortest is the first
      const uint32_t more = new_state();
      set_split(node.state, std::array{part.out, more});
      node.state = more;
      ++node.begin;
    }
    std::vector<GrammarEdge> edges;
    while (node.begin < node.end) {
      const char c = texts[node.begin][node.depth];
      size_t end = node.begin;
      while (end < node.end && texts[end][node.depth] == c) ++end;
      const uint32_t target = new_state();
      edges.push_back({static_cast<uint8_t>(c), static_cast<uint8_t>(c), target});
      rest.push_back({node.begin, end, node.depth + 1, target});
      node.begin = end;
    }
    set_edges(node.state, edges);
  }
  return part;
}

GrammarBuilder::Rule GrammarBuilder::declare() {
  rules_.push_back({new_state(), false});
  return static_cast<Rule>(rules_.size() - 1);
}

void GrammarBuilder::define(Rule rule, Part part) {
  CHECK(!rules_[rule].defined);
  rules_[rule].defined = true;
  link(rules_[rule].entry, part.in);
  tables_.states[part.out] = {GrammarOp::kReturn, 0, 0};
}

Result<Grammar::Shared> GrammarBuilder::finish(Part part) {
  const Rule root = declare();
  define(root, part);
  return finish(root);
}

GrammarBuilder::Part GrammarBuilder::call(Rule rule) {
  const Part part{new_state(), new_state()};
  tables_.states[part.in] = {GrammarOp::kCall, rules_[rule].entry, part.out};
  return part;
}

GrammarBuilder::Rule GrammarBuilder::import(const GrammarTables& from) {
  const auto state_0 = static_cast<uint32_t>(tables_.states.size());
  const auto edge_0 = static_cast<uint32_t>(tables_.edges.size());
  const auto target_0 = static_cast<uint32_t>(tables_.targets.size());
  const auto loop_0 = static_cast<uint32_t>(tables_.loops.size());
  for (GrammarState state : from.states) {
    if (state.op == GrammarOp::kBytes) state.a += edge_0;
    if (state.op == GrammarOp::kSplit) state.a += target_0;
    if (state.op == GrammarOp::kCall) state.a += state_0;
    if (state.op == GrammarOp::kLoop) state.a += loop_0;
    if (state.op == GrammarOp::kCall || state.op == GrammarOp::kLoop) state.b += state_0;
    tables_.states.push_back(state);
  }
  for (GrammarEdge edge : from.edges) {
    edge.target += state_0;
    tables_.edges.push_back(edge);
  }
  for (const uint32_t target : from.targets) tables_.targets.push_back(target + state_0);
  for (GrammarLoop loop : from.loops) {
    // A loop names its rule while it is built.
    rules_.push_back({loop.entry + state_0, true});
    loop.entry = static_cast<uint32_t>(rules_.size() - 1);
    tables_.loops.push_back(loop);
  }
  rules_.push_back({from.start + state_0, true});
  return static_cast<Rule>(rules_.size() - 1);
}

GroupStack::Item* GroupStack::last() {
  Group& group = groups_.back();
  return group.sequence.empty() || group.repeated ? nullptr : &group.sequence.back();
}

void GroupStack::repeat_last(uint32_t min, uint32_t max) {
  Item& item = groups_.back().sequence.back();
  item.min = min;
  item.max = max;
  groups_.back().repeated = true;
}

GroupStack::Item GroupStack::joined(const std::vector<Item>& sequence) {
  Item all{builder_->empty(), 1, 1, 0, 0};
  const auto bounded = [](uint64_t n) { return static_cast<uint32_t>(std::min<uint64_t>(n, kNoBound)); };
  for (const Item& item : sequence) {
    builder_->append(all.part, builder_->repeat(item.part, item.min, item.max));
    all.chars_min = bounded(all.chars_min + uint64_t{item.min} * item.chars_min);
    const bool endless = item.chars_max > 0 && (item.max == kNoBound || item.chars_max == kNoBound) && item.max > 0;
    all.chars_max = endless ? kNoBound : bounded(all.chars_max + uint64_t{item.max} * item.chars_max);
  }
  return all;
}

void GroupStack::alternative() {
  Group& group = groups_.back();
  group.alternatives.push_back(joined(group.sequence));
  group.sequence.clear();
  group.repeated = false;
}

Result<void> GroupStack::open() {
  if (groups_.size() > limits::kGrammarDepth) {
    return fail(Code::kLimit, "groups nest deeper than the limit of {}", limits::kGrammarDepth);
  }
  groups_.emplace_back();
  return {};
}

GroupStack::Item GroupStack::finish_group(Group& group) {
  if (group.alternatives.empty()) return joined(group.sequence);
  group.alternatives.push_back(joined(group.sequence));
  std::vector<GrammarBuilder::Part> parts;
  Item all = group.alternatives.front();
  for (const Item& item : group.alternatives) {
    parts.push_back(item.part);
    all.chars_min = std::min(all.chars_min, item.chars_min);
    all.chars_max = std::max(all.chars_max, item.chars_max);
  }
  all.part = builder_->either(parts);
  return all;
}

bool GroupStack::close() {
  if (depth() == 0) return false;
  Group group = std::move(groups_.back());
  groups_.pop_back();
  groups_.back().sequence.push_back(finish_group(group));
  groups_.back().repeated = false;
  return true;
}

std::vector<GroupStack::Item>* GroupStack::only_sequence() {
  return groups_.front().alternatives.empty() ? &groups_.front().sequence : nullptr;
}

GroupStack::Item GroupStack::finish() {
  CHECK(depth() == 0);
  return finish_group(groups_.front());
}

std::optional<Repetition> read_repetition(std::string_view text, size_t& at) {
  size_t place = at;
  bool too_large = false;
  const auto number = [&]() -> std::optional<uint32_t> {
    const size_t begin = place;
    uint64_t n = 0;
    for (; place < text.size() && text[place] >= '0' && text[place] <= '9'; ++place) {
      n = std::min<uint64_t>(n * 10 + static_cast<uint64_t>(text[place] - '0'), limits::kGrammarRepetition + 1);
    }
    too_large = too_large || n > limits::kGrammarRepetition;
    return place == begin ? std::nullopt : std::optional(static_cast<uint32_t>(n));
  };
  const std::optional<uint32_t> min = number();
  if (!min) return std::nullopt;
  Repetition found{*min, *min, false};
  if (place < text.size() && text[place] == ',') {
    ++place;
    found.max = number().value_or(kNoBound);
  }
  if (place >= text.size() || text[place] != '}') return std::nullopt;
  at = place + 1;
  found.too_large = too_large || found.min > found.max;
  return found;
}

std::optional<char32_t> read_hex(std::string_view text, size_t& at, size_t n) {
  if (text.size() - at < n) return std::nullopt;
  uint32_t value = 0;
  for (size_t i = 0; i < n; ++i) {
    const char c = text[at + i];
    const bool digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!digit && (lower < 'a' || lower > 'f')) return std::nullopt;
    value = value * 16 + static_cast<uint32_t>(digit ? c - '0' : lower - 'a' + 10);
  }
  at += n;
  return value;
}

}  // namespace hearth
