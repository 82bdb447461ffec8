#include "text/jinja_value.h"

#include <algorithm>

#include "base/limits.h"

namespace hearth::jinja {
namespace {
uint16_t deepest_of(const std::vector<Value>& items) {
  uint16_t deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.depth());
  return deepest;
}

uint16_t deepest_of(const std::vector<Entry>& entries) {
  uint16_t deepest = 0;
  for (const auto& [key, value] : entries) deepest = std::max({deepest, key.depth(), value.depth()});
  return deepest;
}

template <typename T>
void dispose(Object* object) {
  object->heap->refund(object->charged_bytes);
  delete static_cast<T*>(object);
}
}  // namespace

std::string_view Value::text() const { return as<StringObject>().view; }
const std::vector<Value>& Value::items() const { return as<ListObject>().items; }
const std::vector<Entry>& Value::entries() const {
  return kind_ == Kind::kNamespace ? as<NamespaceObject>().entries : as<DictObject>().entries;
}

// Recursion is bounded: no value nests deeper than limits::kTemplateDepth.
void Value::destroy() {
  switch (as_.object->kind) {
    case Kind::kString:
      return dispose<StringObject>(as_.object);
    case Kind::kList:
      return dispose<ListObject>(as_.object);
    case Kind::kDict:
      return dispose<DictObject>(as_.object);
    case Kind::kLoop:
      return dispose<LoopObject>(as_.object);
    case Kind::kMacro:
      return dispose<MacroObject>(as_.object);
    case Kind::kMethod:
      return dispose<MethodObject>(as_.object);
    case Kind::kCycler:
      return dispose<CyclerObject>(as_.object);
    case Kind::kJoiner:
      return dispose<JoinerObject>(as_.object);
    default:
      return;  // namespaces are immortal, the rest is not counted
  }
}

Heap::~Heap() {
  for (NamespaceObject* object : namespaces_) object->entries.clear();
  for (NamespaceObject* object : namespaces_) delete object;
}

Result<void> Heap::charge(uint64_t bytes) {
  if (bytes > limits::kTemplateMemoryBytes || live_bytes_ > limits::kTemplateMemoryBytes - bytes)
    return fail(Code::kLimit, "its values would take {} bytes, over the limit of {}", live_bytes_ + bytes,
                limits::kTemplateMemoryBytes);
  live_bytes_ += bytes;
  return {};
}

Result<void> Heap::work(uint64_t units) {
  steps_ += std::min(units, limits::kTemplateSteps + 1);
  if (steps_ > limits::kTemplateSteps) return fail(Code::kLimit, "it needs more than {} steps", limits::kTemplateSteps);
  return {};
}

template <typename T>
Result<Value> Heap::adopt(T object, Kind kind, uint64_t extra_bytes, uint16_t deepest) {
  if (deepest >= limits::kTemplateDepth)
    return fail(Code::kLimit, "a value nests deeper than {} levels", limits::kTemplateDepth);
  object.charged_bytes = sizeof(T) + extra_bytes;
  TRY(charge(object.charged_bytes));
  if (auto counted = work(extra_bytes / 64); !counted) {
    refund(object.charged_bytes);
    return std::unexpected(std::move(counted).error());
  }
  object.kind = kind;
  object.heap = this;
  object.depth = static_cast<uint16_t>(deepest + 1);
  return Value(kind, new T(std::move(object)));
}

Result<Value> Heap::string(std::string text) {
  const uint64_t bytes = text.capacity();
  StringObject object;
  object.owned = std::move(text);
  Value made = TRY(adopt(std::move(object), Kind::kString, bytes, 0));
  made.as<StringObject>().view = made.as<StringObject>().owned;
  return made;
}

Result<Value> Heap::borrowed(std::string_view text) {
  StringObject object;
  object.view = text;
  return adopt(std::move(object), Kind::kString, 0, 0);
}

Result<Value> Heap::list(std::vector<Value> items, ListKind kind) {
  const uint64_t bytes = items.capacity() * sizeof(Value);
  const uint16_t deepest = deepest_of(items);
  ListObject object;
  object.list_kind = kind;
  object.items = std::move(items);
  return adopt(std::move(object), Kind::kList, bytes, deepest);
}

Result<Value> Heap::dict(std::vector<Entry> entries) {
  const uint64_t bytes = entries.capacity() * sizeof(Entry);
  const uint16_t deepest = deepest_of(entries);
  DictObject object;
  object.entries = std::move(entries);
  return adopt(std::move(object), Kind::kDict, bytes, deepest);
}

Result<Value> Heap::name_space(std::vector<Entry> entries) {
  TRY(charge(sizeof(NamespaceObject) + entries.capacity() * sizeof(Entry)));
  auto* object = new NamespaceObject;
  namespaces_.push_back(object);
  object->refs = Object::kImmortal;
  object->kind = Kind::kNamespace;
  object->heap = this;
  object->entries = std::move(entries);
  return Value(Kind::kNamespace, object);
}

Result<Value> Heap::loop(Value items) {
  const uint16_t deepest = items.depth();
  LoopObject object;
  object.items = std::move(items);
  return adopt(std::move(object), Kind::kLoop, 0, deepest);
}

Result<Value> Heap::macro(const MacroShape* shape, Scope* scope) {
  MacroObject object;
  object.shape = shape;
  object.scope = scope;
  return adopt(std::move(object), Kind::kMacro, 0, 0);
}

Result<Value> Heap::method(Value receiver, const Builtin* method) {
  const uint16_t deepest = receiver.depth();
  MethodObject object;
  object.receiver = std::move(receiver);
  object.method = method;
  return adopt(std::move(object), Kind::kMethod, 0, deepest);
}

Result<Value> Heap::cycler(std::vector<Value> items) {
  const uint64_t bytes = items.capacity() * sizeof(Value);
  const uint16_t deepest = deepest_of(items);
  CyclerObject object;
  object.items = std::move(items);
  return adopt(std::move(object), Kind::kCycler, bytes, deepest);
}

Result<Value> Heap::joiner(std::string separator) {
  const uint64_t bytes = separator.capacity();
  JoinerObject object;
  object.separator = std::move(separator);
  return adopt(std::move(object), Kind::kJoiner, bytes, 0);
}

}  // namespace hearth::jinja
