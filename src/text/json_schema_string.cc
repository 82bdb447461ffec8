// Strings: characters, lengths, patterns and formats.
#include <algorithm>
#include <array>

#include "text/grammar_regex.h"
#include "text/json_schema.h"
#include "text/token_trie.h"
#include "text/utf8.h"

namespace hearth {
namespace {

namespace json = boost::json;

using Part = GrammarBuilder::Part;

struct Conjunct {
  std::string pattern;
  bool inside = true;
};

// The first | or ) from `at` on that belongs to no group and no set, or the end.
size_t branch_end(std::string_view pattern, size_t at) {
  size_t depth = 0;
  bool in_set = false;
  for (; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\') {
      ++at;
    } else if (in_set || c == '[') {
      in_set = c != ']';
    } else if (depth == 0 && (c == '|' || c == ')')) {
      return at;
    } else if (c == '(' || c == ')') {
      depth += c == '(' ? 1 : static_cast<size_t>(-1);
    }
  }
  return pattern.size();
}

// A pattern that begins by looking ahead, "^(?=a)(?!b)c", says that a and c match and b does not, each from the beginning on.
// Anything else is left as it is.
std::vector<Conjunct> conjuncts_of(const std::string& pattern) {
  const std::vector<Conjunct> whole{{pattern}};
  if (branch_end(pattern, 0) != pattern.size()) return whole;
  std::vector<Conjunct> all;
  size_t at = 1;
  while (pattern.starts_with('^') && (pattern.compare(at, 3, "(?=") == 0 || pattern.compare(at, 3, "(?!") == 0)) {
    Conjunct ahead{"", pattern[at + 2] == '='};
    size_t end = at + 2;
    do {
      const size_t begin = end + 1;
      end = branch_end(pattern, begin);
      if (end == pattern.size()) return whole;
      ahead.pattern += (ahead.pattern.empty() ? "^" : "|^") + pattern.substr(begin, end - begin);
    } while (pattern[end] == '|');
    all.push_back(std::move(ahead));
    at = end + 1;
  }
  if (all.empty()) return whole;
  all.push_back({"^" + pattern.substr(at)});
  return all;
}

Result<Part> matching_text(GrammarBuilder& builder, const SchemaAt& at, std::string_view pattern, uint32_t min,
                           uint32_t max) {
  const auto inside = pattern_part(builder, pattern, {.in_json_string = true, .chars_min = min, .chars_max = max});
  if (!inside) return fail(inside.error().code, "schema at \"{}\": {}", at.pointer, inside.error().message);
  return builder.sequence(std::array{builder.literal("\""), *inside, builder.literal("\"")});
}

// A text in quotes that is none of these, in characters that need no escape: a tree of the texts, left by any other character
// at any place.
Part text_except(GrammarBuilder& builder, const std::vector<std::string>& unsorted, char32_t last_char) {
  std::vector<std::string> names;
  for (const std::string& name : unsorted) {
    if ((kinds_of(name) & kNoKind) == 0) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  const CharSet plain = {{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, 0x7E}, {0x80, last_char}};
  Part key = builder.literal("\"");
  const Part end = builder.literal("\"");
  const Part rest = builder.repeat(builder.one_of(plain), 0, kNoBound);
  builder.set_split(rest.out, std::array{end.in});
  struct Node {
    size_t begin, end, depth;  // the names that share their first `depth` bytes
    uint32_t state;
  };
  std::vector<Node> nodes{{0, names.size(), 0, builder.new_state()}};
  builder.set_split(key.out, std::array{nodes[0].state});
  while (!nodes.empty()) {
    Node node = nodes.back();
    nodes.pop_back();
    std::vector<uint32_t> ways;
    const bool is_name = node.begin < node.end && names[node.begin].size() == node.depth;
    if (!is_name) ways.push_back(end.in);
    while (node.begin < node.end && names[node.begin].size() == node.depth) ++node.begin;
    CharSet known;
    while (node.begin < node.end) {
      const DecodedChar c = decode_utf8(names[node.begin], node.depth);
      const std::string bytes = names[node.begin].substr(node.depth, c.n_bytes);
      size_t last = node.begin;
      while (last < node.end && names[last].compare(node.depth, c.n_bytes, bytes) == 0) ++last;
      const Part child = builder.literal(bytes);
      const uint32_t state = builder.new_state();
      builder.set_split(child.out, std::array{state});
      ways.push_back(child.in);
      known.push_back({c.code_point, c.code_point});
      nodes.push_back({node.begin, last, node.depth + c.n_bytes, state});
      node.begin = last;
    }
    CharSet taken = complement_of(plain);
    taken.insert(taken.end(), known.begin(), known.end());
    const Part other = builder.one_of(complement_of(taken));
    builder.set_split(other.out, std::array{rest.in});
    ways.push_back(other.in);
    builder.set_split(node.state, ways);
  }
  return {key.in, end.out};
}

}  // namespace

std::optional<std::string> joined_patterns(const std::string& a, const std::string& b) {
  const bool anchored = a.starts_with('^') && b.starts_with('^');
  if (!anchored || branch_end(a, 0) != a.size() || branch_end(b, 0) != b.size()) return std::nullopt;
  return "^(?=" + a.substr(1) + ")" + b.substr(1);
}

std::optional<std::string> negated_pattern(const std::string& pattern) {
  const bool anchored = pattern.starts_with('^');
  if (anchored && branch_end(pattern, 0) == pattern.size()) return "^(?!" + pattern.substr(1) + ")";
  if (pattern.contains('^')) return std::nullopt;
  return "^(?![\\s\\S]*(?:" + pattern + "))";
}

Result<Grammar::Shared> SchemaCompiler::text_language(const SchemaAt& at, std::string_view pattern, uint32_t min,
                                                      uint32_t max) {
  GrammarBuilder builder;
  const Part part = TRY(matching_text(builder, at, pattern, min, max));
  return builder.finish(part);
}

Result<Grammar::Shared> SchemaCompiler::other_texts(const std::vector<std::string>& texts, bool ascii) {
  GrammarBuilder builder;
  const Part part = text_except(builder, texts, ascii ? 0x7E : kLastCodePoint);
  return builder.finish(part);
}

Result<SchemaCompiler::Part> SchemaCompiler::string_part(const SchemaAt& at) {
  const uint32_t min = TRY(at.count("minLength", 0));
  const uint32_t max = TRY(at.count("maxLength", kNoBound));
  const json::value* pattern = at.find("pattern");
  const json::value* format = at.find("format");
  if (pattern != nullptr && !pattern->is_string()) return at.wrong("pattern", "is no string");
  if (format != nullptr && !format->is_string()) return at.wrong("format", "is no string");
  if (min > max) return at.wrong("minLength", "is above maxLength");
  std::vector<Conjunct> conjuncts;
  if (pattern != nullptr) conjuncts = conjuncts_of(std::string(pattern->get_string()));
  const std::string* of_format = format != nullptr ? format_pattern(format->get_string()) : nullptr;
  if (of_format != nullptr) conjuncts.push_back({*of_format});
  std::vector<std::string> others;
  for (const json::value& value : excluded_values(at)) {
    if (value.is_string()) others.emplace_back(value.get_string());
  }
  if (conjuncts.empty() && others.empty()) {
    if (min == 0 && max == kNoBound) return builder_.call(any_string());
    return builder_.sequence(
        std::array{builder_.literal("\""), builder_.repeat(any_char(), min, max), builder_.literal("\"")});
  }
  const bool is_bounded = min > 0 || max != kNoBound;
  if (conjuncts.size() == 1 && others.empty()) {
    auto part = matching_text(builder_, at, conjuncts[0].pattern, min, max);
    if (part || !is_bounded) return part;
  }
  std::vector<GrammarBuilder::Demand> demands;
  bool looks_away = false;
  for (const Conjunct& each : conjuncts) {
    demands.push_back({TRY(text_language(at, each.pattern, 0, kNoBound)), each.inside});
    looks_away = looks_away || !each.inside;
  }
  if (is_bounded) demands.push_back({TRY(text_language(at, "", min, max))});
  // Beyond ASCII engines differ in what matches, so there "does not match" is not known.
  if (looks_away || !others.empty()) demands.push_back({TRY(other_texts(others, looks_away))});
  const auto part = builder_.all_of(demands, *work_);
  if (!part) return at.wrong("pattern", part.error().message);
  return *part;
}

// A character of a string, raw or escaped; each escape is one character, so the halves of a pair are left out.
SchemaCompiler::Part SchemaCompiler::any_char() {
  if (!any_char_) {
    const CharSet hex = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
    const auto code_unit = [&](const CharSet& first, const CharSet& second) {
      return builder_.sequence(std::array{builder_.literal("u"), builder_.one_of(first), builder_.one_of(second),
                                          builder_.one_of(hex), builder_.one_of(hex)});
    };
    std::vector<Part> escapes{code_unit({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}, hex),
                              code_unit({{'d', 'd'}, {'D', 'D'}}, {{'0', '7'}})};
    for (const char c : std::string_view("\"\\/bfnrt")) escapes.push_back(builder_.literal({&c, 1}));
    Part escape = builder_.literal("\\");
    builder_.append(escape, builder_.either(escapes));
    const Part raw = builder_.one_of({{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, kLastCodePoint}});
    any_char_ = builder_.declare();
    builder_.define(*any_char_, builder_.either(std::array{raw, escape}));
  }
  return builder_.call(*any_char_);
}

SchemaCompiler::Rule SchemaCompiler::any_string() {
  if (!any_string_) {
    const Part quoted = builder_.sequence(
        std::array{builder_.literal("\""), builder_.repeat(any_char(), 0, kNoBound), builder_.literal("\"")});
    any_string_ = builder_.declare();
    builder_.define(*any_string_, quoted);
  }
  return *any_string_;
}

}  // namespace hearth
