#include "text/jinja_builtins.h"

namespace hearth::jinja {
namespace {
Result<Value> dict_items(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  std::vector<Value> items;
  items.reserve(value.entries().size());
  for (const auto& [key, member] : value.entries())
    items.push_back(TRY(environment.heap.list({key, member}, ListKind::kTuple)));
  return environment.heap.list(std::move(items), ListKind::kView);
}

Result<Value> dict_keys(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return environment.heap.list(TRY(iterate(environment.heap, value)), ListKind::kView);
}

Result<Value> dict_values(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  std::vector<Value> items;
  items.reserve(value.entries().size());
  for (const auto& [key, member] : value.entries()) items.push_back(member);
  return environment.heap.list(std::move(items), ListKind::kView);
}

Result<Value> dict_get(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"key", "default"}, 1));
  const Value* found = TRY(find(environment.heap, value, bound[0]));
  if (found != nullptr) return *found;
  return bound[1].is_absent() ? Value::none() : bound[1];
}

Result<Value> itself(Environment&, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return value;
}

Result<Value> list_count(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"value"}, 1));
  int64_t count = 0;
  for (const Value& member : value.items()) count += TRY(equals(environment.heap, member, bound[0])) ? 1 : 0;
  return Value(count);
}

Result<Value> list_index(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"value"}, 1));
  for (size_t i = 0; i < value.items().size(); ++i)
    if (TRY(equals(environment.heap, value.items()[i], bound[0]))) return Value(static_cast<int64_t>(i));
  return fail(Code::kMalformed, "the value is not in the list");
}

Result<Value> refuse_change(Environment&, const Value& value, const Arguments&) {
  return fail(Code::kMalformed, "a chat template must not change a {}; make a new one with '+'", type_name(value));
}

Result<Value> loop_cycle(Environment&, const Value& value, const Arguments& arguments) {
  if (arguments.positional.empty()) return fail(Code::kMalformed, "needs at least one item");
  const auto index = static_cast<size_t>(value.as<LoopObject>().index);
  return arguments.positional[index % arguments.positional.size()];
}

// Whether the arguments differ from those of the last call: compared by their representation.
Result<Value> loop_changed(Environment& environment, const Value& value, const Arguments& arguments) {
  std::string now;
  for (const Value& argument : arguments.positional) {
    TRY(append_repr(environment.heap, now, argument));
    now += ',';
  }
  auto& loop = value.as<LoopObject>();
  const bool changed = !loop.has_last_changed || loop.last_changed != now;
  TRY(environment.heap.charge(now.size()));
  environment.heap.refund(loop.last_changed.size());
  loop.charged_bytes += now.size() - loop.last_changed.size();
  loop.has_last_changed = true;
  loop.last_changed = std::move(now);
  return Value(changed);
}

Result<Value> cycler_next(Environment&, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  auto& cycler = value.as<CyclerObject>();
  const Value current = cycler.items[cycler.index];
  cycler.index = (cycler.index + 1) % cycler.items.size();
  return current;
}

Result<Value> cycler_reset(Environment&, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  value.as<CyclerObject>().index = 0;
  return Value::none();
}

constexpr std::array kDictMethods{Builtin{"items", dict_items},    Builtin{"keys", dict_keys},
                                  Builtin{"values", dict_values},  Builtin{"get", dict_get},
                                  Builtin{"copy", itself},         Builtin{"update", refuse_change},
                                  Builtin{"pop", refuse_change},   Builtin{"setdefault", refuse_change},
                                  Builtin{"clear", refuse_change}, Builtin{"popitem", refuse_change}};
constexpr std::array kListMethods{
    Builtin{"count", list_count},     Builtin{"index", list_index},     Builtin{"copy", itself},
    Builtin{"append", refuse_change}, Builtin{"extend", refuse_change}, Builtin{"insert", refuse_change},
    Builtin{"pop", refuse_change},    Builtin{"remove", refuse_change}, Builtin{"reverse", refuse_change},
    Builtin{"sort", refuse_change},   Builtin{"clear", refuse_change}};
constexpr std::array kSequenceMethods{Builtin{"count", list_count}, Builtin{"index", list_index}};
constexpr std::array kLoopMethods{Builtin{"cycle", loop_cycle}, Builtin{"changed", loop_changed}};
constexpr std::array kCyclerMethods{Builtin{"next", cycler_next}, Builtin{"reset", cycler_reset}};
}  // namespace

const Builtin* find_method(const Value& receiver, std::string_view name) {
  switch (receiver.kind()) {
    case Kind::kString:
      return find_in(text_methods(), name);
    case Kind::kDict:
      return find_in(kDictMethods, name);
    case Kind::kLoop:
      return find_in(kLoopMethods, name);
    case Kind::kCycler:
      return find_in(kCyclerMethods, name);
    case Kind::kList:
      if (receiver.is_list(ListKind::kList)) return find_in(kListMethods, name);
      if (receiver.is_list(ListKind::kTuple) || receiver.is_list(ListKind::kRange))
        return find_in(kSequenceMethods, name);
      return nullptr;
    default:
      return nullptr;
  }
}

}  // namespace hearth::jinja
