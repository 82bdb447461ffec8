// What Python does with values: truth, equality, order, membership, arithmetic, subscripts, and their text.
// Errors: kMalformed for what Python refuses (the template's fault), kLimit over the heap's limits.
#pragma once

#include <compare>
#include <string>

#include "text/jinja_program.h"
#include "text/jinja_value.h"

namespace hearth::jinja {

// Python's name of the type, for messages.
[[nodiscard]] std::string_view type_name(const Value& value);
// The error of using an undefined value: says what was looked up.
[[nodiscard]] std::unexpected<Error> undefined_error(const Value& value);
[[nodiscard]] std::unexpected<Error> type_error(std::string_view what, const Value& value);

[[nodiscard]] bool truth(const Value& value);
Result<bool> equals(Heap& heap, const Value& a, const Value& b);
// Python's `a < b`, as an order; an error for types that have none. Unordered floats compare as std::partial_ordering
// does.
Result<std::partial_ordering> order(Heap& heap, const Value& a, const Value& b);
Result<bool> compare(Heap& heap, CompareOp op, const Value& a, const Value& b);
Result<bool> contains(Heap& heap, const Value& container, const Value& item);

Result<Value> binary(Heap& heap, BinaryOp op, const Value& a, const Value& b);
Result<Value> unary(Heap& heap, char op, const Value& value);
// The `%` operator and the format filter on text.
Result<Value> format_percent(Heap& heap, std::string_view format, const std::vector<Value>& arguments,
                             const Value& names);

// str(), appended. Undefined is empty.
Result<void> append_text(Heap& heap, std::string& out, const Value& value);
Result<std::string> text_of(Heap& heap, const Value& value);
Result<void> append_repr(Heap& heap, std::string& out, const Value& value);

struct JsonStyle {
  std::string indent;  // one level, if pretty
  bool pretty = false, ensure_ascii = false, sort_keys = false;
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps: key order kept, no HTML escapes.
Result<void> append_json(Heap& heap, std::string& out, const Value& value, const JsonStyle& style);

// The items Python's iteration yields: of a list, the code points of a string, the keys of a dict, none of undefined.
Result<std::vector<Value>> iterate(Heap& heap, const Value& value);
// len(); an error for what has none.
Result<int64_t> length(Heap& heap, const Value& value);
// Whether it can be a key of a dict: anything but lists, dicts, and tuples that hold such.
[[nodiscard]] bool is_hashable(const Value& value);
// The value under a key, null if there is none.
Result<const Value*> find(Heap& heap, const Value& dict, const Value& key);
// With later values for equal keys winning, as in a dict display.
Result<Value> make_dict(Heap& heap, std::vector<Entry> entries);

// object.name and object[key] as Jinja looks them up: what is not there is undefined; of undefined it is an error.
Result<Value> attribute(Heap& heap, const Value& object, const Value& name);
Result<Value> item(Heap& heap, const Value& object, const Value& key);
Result<Value> slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);

}  // namespace hearth::jinja
