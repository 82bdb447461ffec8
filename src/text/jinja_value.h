// Values of the chat-template interpreter: plain data with shared ownership. Lists and dicts never change once made (as
// in the sandbox that template authors write for), so sharing is free, cycles cannot arise, and the nesting of every
// value is known.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hearth::jinja {

class Heap;
struct Builtin;
struct MacroShape;
struct Scope;

enum class Kind : uint8_t {
  kAbsent,  // an argument that was not given; never seen by a template
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kFunction,  // a built-in function
  kString,
  kList,
  kDict,
  kNamespace,
  kLoop,
  kMacro,
  kMethod,  // a built-in method together with its receiver
  kCycler,
  kJoiner,
};

// What a sequence is in Python; decides how it prints, whether it has a length, and its truth.
enum class ListKind : uint8_t { kList, kTuple, kRange, kView, kGenerator };

// Header of everything that is counted. `refs` of kImmortal is never changed: such objects belong to a program or to
// the heap.
struct Object {
  static constexpr uint32_t kImmortal = UINT32_MAX;
  uint32_t refs = 0;
  uint16_t depth = 1;  // nesting: 1 + the deepest member
  Kind kind = Kind::kString;
  ListKind list_kind = ListKind::kList;
  uint64_t charged_bytes = 0;
  Heap* heap = nullptr;
};

struct StringObject;
struct ListObject;
struct DictObject;
struct NamespaceObject;
struct LoopObject;
struct MacroObject;
struct MethodObject;
struct CyclerObject;
struct JoinerObject;

// 16 bytes; copying counts a reference. One thread per render; constants of a program are immortal and may be read by
// all.
class Value {
 public:
  Value() = default;
  explicit Value(bool v) : kind_(Kind::kBool) { as_.boolean = v; }
  explicit Value(int64_t v) : kind_(Kind::kInt) { as_.integer = v; }
  explicit Value(double v) : kind_(Kind::kFloat) { as_.real = v; }
  explicit Value(const Builtin* v) : kind_(Kind::kFunction) { as_.builtin = v; }
  Value(Kind kind, Object* object) : kind_(kind) {
    as_.object = object;
    retain();
  }
  static Value none() { return Value(Kind::kNone, nullptr); }
  static Value absent() { return Value(Kind::kAbsent, nullptr); }
  // Remembers the name that was looked up, for the error message of a later use.
  static Value undefined(const Value& name) {
    return Value(Kind::kUndefined, name.kind_ == Kind::kString ? name.as_.object : nullptr);
  }

  Value(const Value& other) : kind_(other.kind_), as_(other.as_) { retain(); }
  Value(Value&& other) noexcept : kind_(other.kind_), as_(other.as_) {
    other.kind_ = Kind::kUndefined;
    other.as_.object = nullptr;
  }
  Value& operator=(Value other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(as_, other.as_);
    return *this;
  }
  ~Value() { release(); }

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool is(Kind kind) const { return kind_ == kind; }
  [[nodiscard]] bool is_absent() const { return kind_ == Kind::kAbsent; }
  [[nodiscard]] bool is_undefined() const { return kind_ == Kind::kUndefined; }
  [[nodiscard]] bool is_none() const { return kind_ == Kind::kNone; }
  [[nodiscard]] bool is_string() const { return kind_ == Kind::kString; }
  [[nodiscard]] bool is_list(ListKind kind) const { return kind_ == Kind::kList && as_.object->list_kind == kind; }
  // Python's int: bool is one too.
  [[nodiscard]] bool is_integer() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  [[nodiscard]] bool is_number() const { return is_integer() || kind_ == Kind::kFloat; }

  [[nodiscard]] bool boolean() const { return as_.boolean; }
  [[nodiscard]] int64_t integer() const { return kind_ == Kind::kBool ? int64_t{as_.boolean} : as_.integer; }
  [[nodiscard]] double real() const { return kind_ == Kind::kFloat ? as_.real : static_cast<double>(integer()); }
  [[nodiscard]] const Builtin* builtin() const { return as_.builtin; }
  [[nodiscard]] Object* object() const { return as_.object; }
  [[nodiscard]] std::string_view text() const;
  [[nodiscard]] const std::vector<Value>& items() const;
  [[nodiscard]] const std::vector<std::pair<Value, Value>>& entries() const;
  template <typename T>
  [[nodiscard]] T& as() const {
    return *static_cast<T*>(as_.object);
  }
  [[nodiscard]] uint16_t depth() const { return counted() ? as_.object->depth : uint16_t{0}; }

 private:
  [[nodiscard]] bool counted() const {
    return (kind_ >= Kind::kString || kind_ == Kind::kUndefined) && as_.object != nullptr;
  }
  void retain() {
    if (counted() && as_.object->refs != Object::kImmortal) ++as_.object->refs;
  }
  void release() {
    if (counted() && as_.object->refs != Object::kImmortal && --as_.object->refs == 0) destroy();
  }
  void destroy();

  Kind kind_ = Kind::kUndefined;
  union {
    bool boolean;
    int64_t integer;
    double real;
    const Builtin* builtin;
    Object* object = nullptr;
  } as_;
};

using Entry = std::pair<Value, Value>;

struct StringObject : Object {
  std::string owned;
  std::string_view view;  // of `owned`, or of text that outlives the render
};
struct ListObject : Object {
  std::vector<Value> items;
  bool consumed = false;  // a generator yields its items once
};
// In insertion order, keys unique.
struct DictObject : Object {
  std::vector<Entry> entries;
};
// The one thing a template can change. Belongs to the heap (a namespace may hold itself), so it lives until the render
// ends.
struct NamespaceObject : Object {
  std::vector<Entry> entries;
};
struct LoopObject : Object {
  Value items;
  int64_t index = -1;
  int64_t depth0 = 0;
  int32_t recursive_entry = -1;  // where `loop(items)` continues; -1 if the loop is not recursive
  Scope* scope = nullptr;        // around the loop
  std::string last_changed;      // canonical text of loop.changed's last arguments
  bool has_last_changed = false;
};
struct MacroObject : Object {
  const MacroShape* shape = nullptr;
  Scope* scope = nullptr;  // where it was defined
};
struct MethodObject : Object {
  Value receiver;
  const Builtin* method = nullptr;
};
struct CyclerObject : Object {
  std::vector<Value> items;
  size_t index = 0;
};
struct JoinerObject : Object {
  std::string separator;
  bool used = false;
};

// Makes values and counts what they cost. Belongs to one render; every value made here is gone before it.
class Heap {
 public:
  Heap() = default;
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;
  ~Heap();

  // kLimit if the live bytes would pass limits::kTemplateMemoryBytes, or a value would nest too deep.
  Result<Value> string(std::string text);
  Result<Value> list(std::vector<Value> items, ListKind kind = ListKind::kList);
  Result<Value> dict(std::vector<Entry> entries);
  Result<Value> name_space(std::vector<Entry> entries);
  Result<Value> loop(Value items);
  Result<Value> macro(const MacroShape* shape, Scope* scope);
  Result<Value> method(Value receiver, const Builtin* method);
  Result<Value> cycler(std::vector<Value> items);
  Result<Value> joiner(std::string separator);
  // Without a copy: the text must outlive the render.
  Result<Value> borrowed(std::string_view text);

  // Counts live bytes; the caller gives back what it took. kLimit over limits::kTemplateMemoryBytes.
  Result<void> charge(uint64_t bytes);
  void refund(uint64_t bytes) { live_bytes_ -= bytes; }
  // Counts work: `units` elementary operations (an item visited, 64 bytes read). kLimit over limits::kTemplateSteps.
  Result<void> work(uint64_t units);
  Result<void> work_bytes(uint64_t bytes) { return work(bytes / 64); }

 private:
  template <typename T>
  Result<Value> adopt(T object, Kind kind, uint64_t extra_bytes, uint16_t deepest);
  uint64_t live_bytes_ = 0;
  uint64_t steps_ = 0;
  std::vector<NamespaceObject*> namespaces_;
};

}  // namespace hearth::jinja
