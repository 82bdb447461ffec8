// Arrays.
#include <algorithm>

#include "base/limits.h"
#include "text/json_schema.h"

namespace hearth {

namespace json = boost::json;

Result<SchemaCompiler::Part> SchemaCompiler::array_part(const SchemaAt& at) {
  if (at.find("items") == nullptr && at.find("prefixItems") == nullptr && at.find("minItems") == nullptr &&
      at.find("maxItems") == nullptr && at.find("uniqueItems") == nullptr && at.find("contains") == nullptr) {
    (void)any_value();
    return builder_.call(*any_array_);
  }
  const Part inside = TRY(array_items(at));
  return in_brackets('[', inside, ']');
}

// Elements and the commas between them; beyond prefixItems only where `items` says what may come.
Result<SchemaCompiler::Part> SchemaCompiler::array_items(const SchemaAt& at) {
  const uint32_t min = TRY(at.count("minItems", 0));
  uint32_t max = TRY(at.count("maxItems", kNoBound));
  const json::value* items = at.find("items");
  const json::value* prefix = at.find("prefixItems");
  const json::value* more = at.find("additionalItems");
  if (items != nullptr && items->is_array()) {  // as up to draft 2019-09
    prefix = items;
    items = more;
  }
  if (prefix != nullptr && !prefix->is_array()) return at.wrong("prefixItems", "is no list of schemas");
  const size_t n_prefix = prefix != nullptr ? prefix->get_array().size() : 0;
  const bool only_prefix =
      (items == nullptr && prefix != nullptr) || (items != nullptr && items->is_bool() && !items->get_bool());
  if (only_prefix) max = std::min(max, static_cast<uint32_t>(n_prefix));
  if (min > max) return at.wrong("minItems", fmt::format("is {}, more than the {} that may be there", min, max));
  if (at.find("contains") != nullptr && TRY(at.count("minContains", 1)) > 0) return items_with(at, min, max);
  if (max == 0) return builder_.empty();
  const json::value* unique = at.find("uniqueItems");
  if (unique != nullptr && unique->is_bool() && unique->get_bool() && max > 1) return unique_items(at, min, max);

  const auto element = [&](const json::value* schema, std::string_view keyword) -> Result<Part> {
    if (schema == nullptr) return builder_.call(any_value());
    return call(at.member(keyword, *schema));
  };
  Part tail = builder_.empty();
  const auto n_fixed = static_cast<uint32_t>(std::min<size_t>(std::max<size_t>(n_prefix, 1), max));
  if (max > n_fixed) {
    const Part one = TRY(element(items, "items"));
    tail = builder_.repeat(after_comma(one), min > n_fixed ? min - n_fixed : 0,
                           max == kNoBound ? kNoBound : max - n_fixed);
  }
  for (uint32_t i = n_fixed; i-- > 0;) {
    const Part one = i < n_prefix ? TRY(element(&prefix->get_array()[i], fmt::format("prefixItems/{}", i)))
                                  : TRY(element(items, "items"));
    Part all = i == 0 ? one : after_comma(one);
    builder_.append(all, tail);
    tail = i < min ? all : builder_.optional(all);
  }
  return tail;
}

// Of values that can be counted: a few in any order, more in the order of the schema.
Result<SchemaCompiler::Part> SchemaCompiler::unique_items(const SchemaAt& at, uint32_t min, uint32_t max) {
  const json::value* items = at.find("items");
  std::vector<std::string> texts;
  if (items != nullptr && items->is_object() && at.find("prefixItems") == nullptr) {
    const SchemaAt item = TRY(flattened(at.member("items", *items)));
    if (item.find("enum") != nullptr || item.find("const") != nullptr) texts = TRY(value_texts(item));
    if (item.find("type") != nullptr && *item.find("type") == "boolean") texts = {"true", "false"};
  }
  std::sort(texts.begin(), texts.end());
  const bool repeats = std::adjacent_find(texts.begin(), texts.end()) != texts.end();
  constexpr size_t kAnyOrder = 8, kInOrder = 1000;
  const size_t n = texts.size();
  if (n == 0 || repeats || n > kInOrder) {
    return at.wrong("uniqueItems",
                    "is supported only with a maxItems of 1 or for items of an enum of other values each");
  }
  std::vector<Rule> rules;
  for (const std::string& text : texts) {
    rules.push_back(builder_.declare());
    builder_.define(rules.back(), builder_.literal(text));
  }
  const bool in_order = n > kAnyOrder;
  if (in_order && (min > 1 || max < n)) {
    return at.wrong("uniqueItems", "beside minItems or maxItems is supported only for at most 8 values");
  }
  const auto ways = [&](size_t state) {  // the set of values that have been, or one past the last
    std::vector<ListWay> out;
    if (!in_order && static_cast<uint32_t>(__builtin_popcountll(state)) >= max) return out;
    for (size_t i = in_order ? state : 0; i < n; ++i) {
      if (in_order) out.push_back({rules[i], i + 1});
      if (!in_order && (state >> i & 1) == 0) out.push_back({rules[i], state | size_t{1} << i});
    }
    return out;
  };
  return list_by_states(in_order ? n + 1 : size_t{1} << n, ways, [&](size_t state) {
    return min <= (in_order ? std::min<size_t>(state, 1) : static_cast<size_t>(__builtin_popcountll(state)));
  });
}

// With enough items that `contains` accepts, by how many there have been of those and of all.
Result<SchemaCompiler::Part> SchemaCompiler::items_with(const SchemaAt& at, uint32_t min, uint32_t max) {
  const size_t n_found = TRY(at.count("minContains", 1));
  const size_t n_all = max == kNoBound ? std::max<size_t>(min, 1) : max;
  constexpr size_t kStates = 2048;
  if (at.find("prefixItems") != nullptr || at.find("uniqueItems") != nullptr || n_found >= kStates ||
      n_all >= kStates || (n_found + 1) * (n_all + 1) > kStates) {
    return at.wrong("contains", "is supported without prefixItems and uniqueItems, and for few items");
  }
  const json::value* items = at.find("items");
  const json::value& contained = *at.find("contains");
  json::array both{contained};
  if (items != nullptr) both.insert(both.begin(), *items);
  const Rule found = TRY(rule_of(keep(at.member("contains", contained), json::object{{"allOf", std::move(both)}})));
  const Rule any = items != nullptr ? TRY(rule_of(at.member("items", *items))) : any_value();
  const size_t row = n_all + 1;
  const auto ways = [&](size_t state) {
    std::vector<ListWay> out;
    const size_t n = state % row;
    if (n == n_all && max != kNoBound) return out;
    const size_t next = state - n + std::min(n + 1, n_all);
    out.push_back({any, next});
    if (state / row < n_found) out.push_back({found, next + row});
    return out;
  };
  return list_by_states(row * (n_found + 1), ways,
                        [&](size_t state) { return state / row == n_found && state % row >= min; });
}

}  // namespace hearth
