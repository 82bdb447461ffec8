#include <algorithm>
#include <cmath>
#include <map>

#include "text/jinja_operations.h"
#include "text/jinja_text.h"

namespace hearth::jinja {

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kAbsent:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kMacro:
      return "Macro";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
    case Kind::kFunction:
    case Kind::kMethod:
      return "function";
    case Kind::kList:
      break;
  }
  switch (value.object()->list_kind) {
    case ListKind::kTuple:
      return "tuple";
    case ListKind::kRange:
      return "range";
    case ListKind::kView:
      return "dict_items";
    case ListKind::kGenerator:
      return "generator";
    case ListKind::kList:
      break;
  }
  return "list";
}

std::unexpected<Error> undefined_error(const Value& value) {
  if (value.object() == nullptr) return fail(Code::kMalformed, "an undefined value is used");
  return fail(Code::kMalformed, "'{}' is undefined", value.as<StringObject>().view.substr(0, 100));
}

std::unexpected<Error> type_error(std::string_view what, const Value& value) {
  if (value.is_undefined()) return undefined_error(value);
  return fail(Code::kMalformed, "{} a value of type {}", what, type_name(value));
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kAbsent:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
      return value.is_list(ListKind::kGenerator) || !value.items().empty();
    case Kind::kDict:
      return !value.entries().empty();
    default:
      return true;
  }
}

bool is_hashable(const Value& value) {
  if (value.is(Kind::kDict) || value.is_list(ListKind::kList) || value.is_list(ListKind::kView)) return false;
  return !value.is_list(ListKind::kTuple) || std::all_of(value.items().begin(), value.items().end(), is_hashable);
}

namespace {
// Exact, also where the integer does not fit a double.
std::partial_ordering order_numbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return a.integer() <=> b.integer();
  if (a.is_integer()) return 0 <=> order_numbers(b, a);
  if (!b.is_integer()) return a.real() <=> b.real();
  const double real = a.real();
  if (std::isnan(real)) return std::partial_ordering::unordered;
  if (real >= 0x1p63) return std::partial_ordering::greater;
  if (real < -0x1p63) return std::partial_ordering::less;
  const auto whole = static_cast<int64_t>(real);
  if (whole != b.integer()) return whole <=> b.integer();
  return real - static_cast<double>(whole) <=> 0.0;
}

Result<bool> equal_items(Heap& heap, const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!TRY(equals(heap, a[i], b[i]))) return false;
  return true;
}

Result<bool> equal_dicts(Heap& heap, const Value& a, const Value& b) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = TRY(find(heap, b, key));
    if (other == nullptr) return false;
    if (!TRY(equals(heap, value, *other))) return false;
  }
  return true;
}
}  // namespace

Result<bool> equals(Heap& heap, const Value& a, const Value& b) {
  TRY(heap.work(1));
  if (a.is_number() && b.is_number()) return order_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      TRY(heap.work_bytes(std::min(a.text().size(), b.text().size())));
      return a.text() == b.text();
    case Kind::kFunction:
      return a.builtin() == b.builtin();
    case Kind::kList:
      if (a.object() == b.object()) return true;
      if (a.object()->list_kind != b.object()->list_kind || a.is_list(ListKind::kGenerator)) return false;
      return equal_items(heap, a.items(), b.items());
    case Kind::kDict:
      return a.object() == b.object() ? Result<bool>(true) : equal_dicts(heap, a, b);
    default:
      return a.object() == b.object();
  }
}

Result<std::partial_ordering> order(Heap& heap, const Value& a, const Value& b) {
  TRY(heap.work(1));
  if (a.is_number() && b.is_number()) return order_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    TRY(heap.work_bytes(std::min(a.text().size(), b.text().size())));
    return a.text().compare(b.text()) <=> 0;  // UTF-8 sorts as its code points do
  }
  const bool sequences = a.is(Kind::kList) && b.is(Kind::kList) && a.object()->list_kind == b.object()->list_kind &&
                         (a.is_list(ListKind::kList) || a.is_list(ListKind::kTuple));
  if (sequences) {
    const auto &left = a.items(), &right = b.items();
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i)
      if (!TRY(equals(heap, left[i], right[i]))) return order(heap, left[i], right[i]);
    return left.size() <=> right.size();
  }
  if (a.is_undefined()) return undefined_error(a);
  if (b.is_undefined()) return undefined_error(b);
  return fail(Code::kMalformed, "values of types {} and {} have no order", type_name(a), type_name(b));
}

Result<bool> compare(Heap& heap, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEqual:
      return equals(heap, a, b);
    case CompareOp::kNotEqual:
      return !TRY(equals(heap, a, b));
    case CompareOp::kIn:
      return contains(heap, b, a);
    case CompareOp::kNotIn:
      return !TRY(contains(heap, b, a));
    default:
      break;
  }
  const std::partial_ordering result = TRY(order(heap, a, b));
  switch (op) {
    case CompareOp::kLess:
      return result < 0;
    case CompareOp::kLessEqual:
      return result <= 0;
    case CompareOp::kGreater:
      return result > 0;
    default:
      return result >= 0;
  }
}

Result<bool> contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is_string()) return type_error("'in <string>' needs a string on its left, not", item);
      TRY(heap.work_bytes(container.text().size()));
      return container.text().find(item.text()) != std::string_view::npos;
    case Kind::kDict:
      return TRY(find(heap, container, item)) != nullptr;
    case Kind::kUndefined:
      return false;
    case Kind::kList:
      for (const Value& candidate : container.items())
        if (TRY(equals(heap, candidate, item))) return true;
      return false;
    default:
      return type_error("cannot look with 'in' into", container);
  }
}

Result<const Value*> find(Heap& heap, const Value& dict, const Value& key) {
  const auto& entries = dict.entries();
  TRY(heap.work(entries.size() / 8));
  if (key.is_string()) {
    const std::string_view text = key.text();
    for (const auto& [name, value] : entries)
      if (name.is_string() && name.text() == text) return &value;
    return nullptr;
  }
  if (!is_hashable(key)) return type_error("cannot use as a key", key);
  for (const auto& [name, value] : entries)
    if (TRY(equals(heap, name, key))) return &value;
  return nullptr;
}

Result<Value> make_dict(Heap& heap, std::vector<Entry> entries) {
  std::vector<Entry> unique;
  unique.reserve(entries.size());
  std::map<std::string_view, size_t, std::less<>> positions;  // of string keys
  for (Entry& entry : entries) {
    if (!is_hashable(entry.first)) return type_error("cannot use as a key", entry.first);
    size_t at = unique.size();
    if (entry.first.is_string()) {
      at = positions.try_emplace(entry.first.text(), at).first->second;
    } else {
      for (size_t i = 0; i < unique.size() && at == unique.size(); ++i)
        if (TRY(equals(heap, unique[i].first, entry.first))) at = i;
    }
    if (at == unique.size()) {
      unique.push_back(std::move(entry));
    } else {
      unique[at].second = std::move(entry.second);
    }
  }
  return heap.dict(std::move(unique));
}

Result<int64_t> length(Heap& heap, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      TRY(heap.work_bytes(value.text().size()));
      return code_points(value.text());
    case Kind::kDict:
      return static_cast<int64_t>(value.entries().size());
    case Kind::kList:
      if (!value.is_list(ListKind::kGenerator)) return static_cast<int64_t>(value.items().size());
      [[fallthrough]];
    default:
      return type_error("no length has", value);
  }
}

Result<std::vector<Value>> iterate(Heap& heap, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kString: {
      const std::string_view text = value.text();
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        next_code_point(text, at);
        items.push_back(TRY(heap.string(std::string(text.substr(begin, at - begin)))));
      }
      return items;
    }
    case Kind::kDict:
      TRY(heap.work(value.entries().size()));
      for (const auto& [key, member] : value.entries()) items.push_back(key);
      return items;
    case Kind::kList:
      TRY(heap.work(value.items().size()));
      if (value.is_list(ListKind::kGenerator) && std::exchange(value.as<ListObject>().consumed, true)) return items;
      return value.items();
    default:
      return type_error("cannot iterate over", value);
  }
}

}  // namespace hearth::jinja
