// Everything a template can call that is not a macro: filters, tests, methods of text, lists and dicts, and global
// functions. All have one signature, so that each kind is a table of names and functions.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "text/jinja_operations.h"
#include "text/jinja_value.h"

namespace hearth::jinja {

// As they lie on the interpreter's stack.
struct Arguments {
  std::span<const Value> positional;
  std::span<const Value> names;  // one per value of `named`
  std::span<const Value> named;
};

struct Environment {
  Heap& heap;
  std::string_view date_string;  // what strftime_now gives; empty for the clock
};

struct Builtin {
  std::string_view name;
  // `receiver` is the filtered or tested value, or the object of a method.
  Result<Value> (*call)(Environment& environment, const Value& receiver, const Arguments& arguments);
};

// Null if there is no such name.
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_global(std::string_view name);
const Builtin* find_method(const Value& receiver, std::string_view name);

// The parts of the filter table, one per file.
std::span<const Builtin> text_filters();
std::span<const Builtin> number_filters();
std::span<const Builtin> sequence_filters();
std::span<const Builtin> selection_filters();
std::span<const Builtin> text_methods();

const Builtin* find_in(std::span<const Builtin> table, std::string_view name);

// Gives each parameter its argument, kAbsent if there is none; an error for too many, unknown, doubled or missing ones.
Result<void> bind_into(std::span<Value> bound, std::span<const std::string_view> parameters, size_t required,
                       const Arguments& arguments);

template <size_t N>
Result<std::array<Value, N>> bind(const Arguments& arguments, const std::string_view (&parameters)[N],
                                  size_t required = 0) {
  std::array<Value, N> bound;
  TRY(bind_into(bound, parameters, required, arguments));
  return bound;
}
Result<void> takes_nothing(const Arguments& arguments);

// Arguments of one type; `what` names the parameter. Absent gives the default.
Result<int64_t> integer_or(const Value& value, int64_t otherwise, std::string_view what);
bool boolean_or(const Value& value, bool otherwise);
Result<std::string_view> text_argument(const Value& value, std::string_view what);
Result<std::string_view> text_or(const Value& value, std::string_view otherwise, std::string_view what);

// item.part.part, where a part of digits is an index: what `attribute=` arguments mean.
Result<Value> path_item(Heap& heap, const Value& item, const Value& path);

}  // namespace hearth::jinja
