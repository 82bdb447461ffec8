#include <algorithm>
#include <set>

#include "base/limits.h"
#include "text/jinja_builtins.h"
#include "text/jinja_format.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
Result<Value> length_filter(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return Value(TRY(length(environment.heap, value)));
}

Result<Value> default_filter(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"default_value", "boolean"}));
  const bool falsy_too = boolean_or(bound[1], false);
  if (!value.is_undefined() && !(falsy_too && !truth(value))) return value;
  return bound[0].is_absent() ? environment.heap.string("") : bound[0];
}

Result<Value> first(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::vector<Value> items = TRY(iterate(environment.heap, value));
  if (!items.empty()) return items.front();
  return Value::undefined(TRY(environment.heap.string("the first item of an empty sequence")));
}

Result<Value> last(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  if (value.is_list(ListKind::kGenerator)) return type_error("cannot be reversed:", value);
  const std::vector<Value> items = TRY(iterate(environment.heap, value));
  if (!items.empty()) return items.back();
  return Value::undefined(TRY(environment.heap.string("the last item of an empty sequence")));
}

Result<Value> list(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return environment.heap.list(TRY(iterate(environment.heap, value)));
}

Result<Value> join(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"d", "attribute"}));
  const std::string separator = bound[0].is_absent() ? std::string() : TRY(text_of(environment.heap, bound[0]));
  std::string out;
  bool first_item = true;
  for (const Value& member : TRY(iterate(environment.heap, value))) {
    if (!std::exchange(first_item, false)) out += separator;
    TRY(environment.heap.work_bytes(separator.size()));
    const bool whole = bound[1].is_absent() || bound[1].is_none();
    const Value part = whole ? member : TRY(path_item(environment.heap, member, bound[1]));
    TRY(append_text(environment.heap, out, part));
  }
  return environment.heap.string(std::move(out));
}

Result<Value> reverse(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  std::vector<Value> items = TRY(iterate(environment.heap, value));
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return environment.heap.list(std::move(items), ListKind::kGenerator);
  std::string out;
  for (const Value& part : items) out += part.text();
  return environment.heap.string(std::move(out));
}

Result<Value> items_filter(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  if (!value.is(Kind::kDict) && !value.is_undefined())
    return type_error("can only get item pairs from a mapping, not", value);
  std::vector<Value> pairs;
  if (value.is(Kind::kDict))
    for (const auto& [key, member] : value.entries())
      pairs.push_back(TRY(environment.heap.list({key, member}, ListKind::kTuple)));
  return environment.heap.list(std::move(pairs), ListKind::kGenerator);
}

// What sort, min, max, unique and groupby compare: text without regard to case unless told otherwise.
Result<Value> folded(Environment& environment, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  TRY(environment.heap.work_bytes(value.text().size() * 4));
  return environment.heap.string(lower(value.text()));
}

struct Keyed {
  Value key, value;
};

// Stable merge sort that stops at the first pair without an order.
Result<void> sort_keyed(Heap& heap, std::vector<Keyed>& items, bool descending) {
  std::vector<Keyed> merged(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    for (size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, items.size()), end = std::min(begin + 2 * width, items.size());
      size_t left = begin, right = middle;
      for (size_t at = begin; at < end; ++at) {
        bool take_right = left == middle;
        if (!take_right && right < end) {
          const std::partial_ordering o = TRY(order(heap, items[right].key, items[left].key));
          take_right = descending ? o > 0 : o < 0;
        }
        merged[at] = std::move(items[take_right ? right++ : left++]);
      }
    }
    std::swap(items, merged);
  }
  return {};
}

Result<std::vector<Keyed>> keyed_items(Environment& environment, const Value& value, const Value& path,
                                       bool case_sensitive) {
  std::vector<Keyed> keyed;
  for (const Value& member : TRY(iterate(environment.heap, value))) {
    if (path.is_absent() || path.is_none()) {
      keyed.push_back({TRY(folded(environment, member, case_sensitive)), member});
      continue;
    }
    if (!path.is_string() || path.text().find(',') == std::string_view::npos) {
      const Value key = TRY(path_item(environment.heap, member, path));
      keyed.push_back({TRY(folded(environment, key, case_sensitive)), member});
      continue;
    }
    std::vector<Value> parts;  // attribute="a,b": by a, then by b
    for (std::string_view rest = path.text();;) {
      const size_t comma = rest.find(',');
      const Value part = TRY(environment.heap.string(std::string(rest.substr(0, comma))));
      const Value key = TRY(path_item(environment.heap, member, part));
      parts.push_back(TRY(folded(environment, key, case_sensitive)));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    keyed.push_back({TRY(environment.heap.list(std::move(parts))), member});
  }
  return keyed;
}

Result<Value> values_of(Heap& heap, std::vector<Keyed> keyed, ListKind kind = ListKind::kList) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.value));
  return heap.list(std::move(items), kind);
}

Result<Value> sort(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"reverse", "case_sensitive", "attribute"}));
  std::vector<Keyed> keyed = TRY(keyed_items(environment, value, bound[2], boolean_or(bound[1], false)));
  TRY(sort_keyed(environment.heap, keyed, boolean_or(bound[0], false)));
  return values_of(environment.heap, std::move(keyed));
}

Result<Value> extreme(Environment& environment, const Value& value, const Arguments& arguments, bool largest) {
  const auto bound = TRY(bind(arguments, {"case_sensitive", "attribute"}));
  std::vector<Keyed> keyed = TRY(keyed_items(environment, value, bound[1], boolean_or(bound[0], false)));
  if (keyed.empty()) return Value::undefined(TRY(environment.heap.string("an item of an empty sequence")));
  const Keyed* best = &keyed[0];
  for (const Keyed& candidate : std::span(keyed).subspan(1)) {
    const std::partial_ordering o = TRY(order(environment.heap, candidate.key, best->key));
    if (largest ? o > 0 : o < 0) best = &candidate;
  }
  return best->value;
}
Result<Value> min_filter(Environment& e, const Value& v, const Arguments& a) { return extreme(e, v, a, false); }
Result<Value> max_filter(Environment& e, const Value& v, const Arguments& a) { return extreme(e, v, a, true); }

Result<Value> unique(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"case_sensitive", "attribute"}));
  std::set<std::string> seen;  // representations: equal keys of one type print alike
  std::vector<Keyed> kept;
  for (Keyed& entry : TRY(keyed_items(environment, value, bound[1], boolean_or(bound[0], false)))) {
    if (!is_hashable(entry.key)) return type_error("cannot tell apart", entry.key);
    std::string text;
    const bool whole =
        entry.key.is(Kind::kFloat) &&
        entry.key.real() == static_cast<double>(static_cast<int64_t>(std::clamp(entry.key.real(), -1e15, 1e15)));
    const int64_t integer = whole                    ? static_cast<int64_t>(entry.key.real())
                            : entry.key.is_integer() ? entry.key.integer()
                                                     : 0;
    TRY(append_repr(environment.heap, text, whole || entry.key.is_integer() ? Value(integer) : entry.key));
    TRY(environment.heap.work(4));
    if (seen.insert(std::move(text)).second) kept.push_back(std::move(entry));
  }
  return values_of(environment.heap, std::move(kept), ListKind::kGenerator);
}

Result<Value> sum(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"attribute", "start"}));
  Value total = bound[1].is_absent() ? Value(int64_t{0}) : bound[1];
  if (total.is_string()) return type_error("cannot sum", total);
  for (const Value& member : TRY(iterate(environment.heap, value))) {
    const bool whole = bound[0].is_absent() || bound[0].is_none();
    const Value part = whole ? member : TRY(path_item(environment.heap, member, bound[0]));
    total = TRY(binary(environment.heap, BinaryOp::kAdd, total, part));
  }
  return total;
}

Result<Value> dictsort(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"case_sensitive", "by", "reverse"}));
  const bool case_sensitive = boolean_or(bound[0], false);
  const std::string_view by = TRY(text_or(bound[1], "key", "by"));
  if (by != "key" && by != "value") return fail(Code::kMalformed, "'by' must be key or value");
  if (!value.is(Kind::kDict)) return type_error("cannot sort the items of", value);
  std::vector<Keyed> keyed;
  for (const auto& [key, member] : value.entries())
    keyed.push_back({TRY(folded(environment, by == "key" ? key : member, case_sensitive)),
                     TRY(environment.heap.list({key, member}, ListKind::kTuple))});
  TRY(sort_keyed(environment.heap, keyed, boolean_or(bound[2], false)));
  return values_of(environment.heap, std::move(keyed));
}

Result<Value> batch(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"linecount", "fill_with"}, 1));
  const int64_t size = TRY(integer_or(bound[0], 1, "linecount"));
  const bool fills = !bound[1].is_absent() && !bound[1].is_none();
  if (size < 1 || (fills && size > static_cast<int64_t>(limits::kTemplateRange)))
    return fail(Code::kLimit, "a 'linecount' of {} is outside 1 to {}", size, limits::kTemplateRange);
  std::vector<Value> lines, line;
  for (const Value& member : TRY(iterate(environment.heap, value))) {
    if (static_cast<int64_t>(line.size()) == size) lines.push_back(TRY(environment.heap.list(std::exchange(line, {}))));
    line.push_back(member);
  }
  if (!line.empty()) {
    TRY(environment.heap.work(fills ? static_cast<uint64_t>(size) : 0));
    while (fills && static_cast<int64_t>(line.size()) < size) line.push_back(bound[1]);
    lines.push_back(TRY(environment.heap.list(std::move(line))));
  }
  return environment.heap.list(std::move(lines), ListKind::kGenerator);
}

Result<Value> slice_filter(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"slices", "fill_with"}, 1));
  const int64_t slices = TRY(integer_or(bound[0], 1, "slices"));
  if (slices < 1 || slices > static_cast<int64_t>(limits::kTemplateRange))
    return fail(Code::kLimit, "{} slices are outside 1 to {}", slices, limits::kTemplateRange);
  const bool fills = !bound[1].is_absent() && !bound[1].is_none();
  const std::vector<Value> items = TRY(iterate(environment.heap, value));
  const size_t count = static_cast<size_t>(slices), each = items.size() / count, longer = items.size() % count;
  TRY(environment.heap.work(count));
  std::vector<Value> columns;
  auto at = items.begin();
  for (size_t i = 0; i < count; ++i) {
    const auto end = at + static_cast<ptrdiff_t>(each + (i < longer ? 1 : 0));
    std::vector<Value> column(at, end);
    if (fills && i >= longer) column.push_back(bound[1]);
    columns.push_back(TRY(environment.heap.list(std::move(column))));
    at = end;
  }
  return environment.heap.list(std::move(columns), ListKind::kGenerator);
}

// Pairs of a key and the items that have it, sorted by key.
Result<Value> groupby(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"attribute", "default", "case_sensitive"}, 1));
  std::vector<Keyed> keyed;
  const bool case_sensitive = boolean_or(bound[2], false);
  for (const Value& member : TRY(iterate(environment.heap, value))) {
    Value key = TRY(path_item(environment.heap, member, bound[0]));
    if (key.is_undefined() && !bound[1].is_absent()) key = bound[1];
    keyed.push_back({TRY(folded(environment, key, case_sensitive)), member});
  }
  TRY(sort_keyed(environment.heap, keyed, false));
  std::vector<Value> groups, group;
  for (size_t i = 0; i < keyed.size(); ++i) {
    group.push_back(keyed[i].value);
    if (i + 1 < keyed.size() && TRY(equals(environment.heap, keyed[i].key, keyed[i + 1].key))) continue;
    Value key = keyed[i].key;
    if (!case_sensitive) {  // shown as the first of the group has it
      key = TRY(path_item(environment.heap, group.front(), bound[0]));
      if (key.is_undefined() && !bound[1].is_absent()) key = bound[1];
    }
    const Value members = TRY(environment.heap.list(std::exchange(group, {})));
    groups.push_back(TRY(environment.heap.list({key, members}, ListKind::kTuple)));
  }
  return environment.heap.list(std::move(groups));
}

constexpr std::array kSequenceFilters{
    Builtin{"length", length_filter},
    Builtin{"count", length_filter},
    Builtin{"default", default_filter},
    Builtin{"d", default_filter},
    Builtin{"first", first},
    Builtin{"last", last},
    Builtin{"list", list},
    Builtin{"join", join},
    Builtin{"reverse", reverse},
    Builtin{"items", items_filter},
    Builtin{"sort", sort},
    Builtin{"min", min_filter},
    Builtin{"max", max_filter},
    Builtin{"unique", unique},
    Builtin{"sum", sum},
    Builtin{"dictsort", dictsort},
    Builtin{"batch", batch},
    Builtin{"slice", slice_filter},
    Builtin{"groupby", groupby},
};
}  // namespace

std::span<const Builtin> sequence_filters() { return kSequenceFilters; }

}  // namespace hearth::jinja
