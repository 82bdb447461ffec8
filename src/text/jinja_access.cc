#include <algorithm>
#include <array>

#include "text/jinja_builtins.h"
#include "text/jinja_operations.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
Result<Value> loop_attribute(Heap& heap, const LoopObject& loop, std::string_view name) {
  const auto& items = loop.items.items();
  const auto count = static_cast<int64_t>(items.size());
  if (name == "index") return Value(loop.index + 1);
  if (name == "index0") return Value(loop.index);
  if (name == "first") return Value(loop.index == 0);
  if (name == "last") return Value(loop.index + 1 == count);
  if (name == "length") return Value(count);
  if (name == "revindex") return Value(count - loop.index);
  if (name == "revindex0") return Value(count - loop.index - 1);
  if (name == "depth") return Value(loop.depth0 + 1);
  if (name == "depth0") return Value(loop.depth0);
  const Value undefined = Value::undefined(TRY(heap.string(std::string(name))));
  if (name == "previtem") return loop.index > 0 ? items[static_cast<size_t>(loop.index - 1)] : undefined;
  if (name == "nextitem") return loop.index + 1 < count ? items[static_cast<size_t>(loop.index + 1)] : undefined;
  return undefined;
}

// Attributes that are not entries: built-in methods, and those of loops and macros. Absent if there is none.
Result<Value> builtin_attribute(Heap& heap, const Value& object, std::string_view name) {
  if (object.is(Kind::kMacro) && name == "name") return object.as<MacroObject>().shape->name;
  if (object.is(Kind::kCycler) && name == "current") {
    const auto& cycler = object.as<CyclerObject>();
    return cycler.items[cycler.index];
  }
  if (const Builtin* method = find_method(object, name)) return heap.method(object, method);
  return Value::absent();
}

// Entry `index` of a sequence of `size`, counted from the end if negative; -1 if there is none.
int64_t position(int64_t index, int64_t size) {
  if (index < 0) index += size;
  return index >= 0 && index < size ? index : -1;
}

Result<Value> indexed(Heap& heap, const Value& object, const Value& key) {
  if (object.is(Kind::kList) && !object.is_list(ListKind::kGenerator) && !object.is_list(ListKind::kView)) {
    const int64_t at = position(key.integer(), static_cast<int64_t>(object.items().size()));
    if (at >= 0) return object.items()[static_cast<size_t>(at)];
  } else if (object.is_string()) {
    return slice(heap, object, key, Value::absent(), Value::none());
  }
  return Value::undefined(TRY(heap.string("an item out of range")));
}
}  // namespace

Result<Value> attribute(Heap& heap, const Value& object, const Value& name) {
  if (object.is_undefined()) return undefined_error(object);
  if (object.is(Kind::kLoop)) {
    if (const Builtin* method = find_method(object, name.text())) return heap.method(object, method);
    return loop_attribute(heap, object.as<LoopObject>(), name.text());
  }
  if (object.is(Kind::kNamespace)) {
    const Value* found = TRY(find(heap, object, name));
    return found != nullptr ? *found : Value::undefined(name);
  }
  Value builtin = TRY(builtin_attribute(heap, object, name.text()));
  if (!builtin.is_absent()) return builtin;
  if (object.is(Kind::kDict))
    if (const Value* found = TRY(find(heap, object, name))) return *found;
  return Value::undefined(name);
}

Result<Value> item(Heap& heap, const Value& object, const Value& key) {
  if (object.is_undefined()) return undefined_error(object);
  if (object.is(Kind::kDict) && is_hashable(key))
    if (const Value* found = TRY(find(heap, object, key))) return *found;
  if (key.is_string()) {
    if (object.is(Kind::kNamespace) || object.is(Kind::kLoop)) return attribute(heap, object, key);
    Value builtin = TRY(builtin_attribute(heap, object, key.text()));
    return builtin.is_absent() ? Value::undefined(key) : builtin;
  }
  if (key.is_integer() && !object.is(Kind::kDict)) return indexed(heap, object, key);
  return Value::undefined(key);
}

namespace {
// Python's slice.indices: the first position, the end and the step for a sequence of `size`.
struct Range {
  int64_t start, stop, step;
};

Result<Range> slice_range(const Value& start, const Value& stop, const Value& step, int64_t size) {
  auto bound = [&](const Value& value, int64_t otherwise, int64_t low, int64_t high) -> Result<int64_t> {
    if (value.is_none()) return otherwise;
    if (!value.is_integer()) return type_error("a slice needs integers, not", value);
    const int64_t at = value.integer() < 0 ? value.integer() + size : value.integer();
    return std::clamp(at, low, high);
  };
  Range range{};
  range.step = step.is_none() ? 1 : TRY(integer_or(step, 1, "step"));
  if (range.step == 0) return fail(Code::kMalformed, "a slice with step zero");
  const bool forward = range.step > 0;
  range.start = TRY(bound(start, forward ? 0 : size - 1, forward ? 0 : -1, forward ? size : size - 1));
  range.stop = TRY(bound(stop, forward ? size : -1, forward ? 0 : -1, forward ? size : size - 1));
  return range;
}

template <typename Visit>
void visit_range(const Range& range, Visit visit) {
  int64_t at = range.start;
  while (range.step > 0 ? at < range.stop : at > range.stop) {
    visit(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, range.step, &at)) return;
  }
}

Result<Value> slice_text(Heap& heap, std::string_view text, const Value& start, const Value& stop, const Value& step) {
  TRY(heap.work_bytes(text.size()));
  const bool bytes = is_ascii(text);
  const std::vector<size_t> offsets = bytes ? std::vector<size_t>() : code_point_offsets(text);
  const auto size = static_cast<int64_t>(bytes ? text.size() : offsets.size() - 1);
  if (stop.is_absent()) {  // one item
    const int64_t at = position(start.integer(), size);
    if (at < 0) return Value::undefined(TRY(heap.string("an item out of range")));
    const auto i = static_cast<size_t>(at);
    return heap.string(std::string(bytes ? text.substr(i, 1) : text.substr(offsets[i], offsets[i + 1] - offsets[i])));
  }
  const Range range = TRY(slice_range(start, stop, step, size));
  std::string out;
  if (range.step == 1) {
    const auto begin = static_cast<size_t>(range.start), end = static_cast<size_t>(std::max(range.start, range.stop));
    out = bytes ? text.substr(begin, end - begin) : text.substr(offsets[begin], offsets[end] - offsets[begin]);
  } else {
    visit_range(range, [&](size_t i) {
      out += bytes ? text.substr(i, 1) : text.substr(offsets[i], offsets[i + 1] - offsets[i]);
    });
  }
  return heap.string(std::move(out));
}
}  // namespace

Result<Value> slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) return undefined_error(object);
  if (object.is_string()) return slice_text(heap, object.text(), start, stop, step);
  if (!object.is(Kind::kList) || object.is_list(ListKind::kGenerator) || object.is_list(ListKind::kView))
    return type_error("cannot slice", object);
  const auto& items = object.items();
  const Range range = TRY(slice_range(start, stop, step, static_cast<int64_t>(items.size())));
  std::vector<Value> selected;
  visit_range(range, [&](size_t i) { selected.push_back(items[i]); });
  TRY(heap.work(selected.size()));
  return heap.list(std::move(selected), object.object()->list_kind);
}

}  // namespace hearth::jinja
