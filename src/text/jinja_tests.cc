#include "text/jinja_builtins.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
template <bool (*kHolds)(const Value&)>
Result<Value> property(Environment&, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return Value(kHolds(value));
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_string(const Value& v) { return v.is_string(); }
bool is_mapping(const Value& v) { return v.is(Kind::kDict); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_integer(const Value& v) { return v.is(Kind::kInt); }
bool is_float(const Value& v) { return v.is(Kind::kFloat); }
bool is_boolean(const Value& v) { return v.is(Kind::kBool); }
bool is_true(const Value& v) { return v.is(Kind::kBool) && v.boolean(); }
bool is_false(const Value& v) { return v.is(Kind::kBool) && !v.boolean(); }
bool is_iterable(const Value& v) {
  return v.is_string() || v.is(Kind::kList) || v.is(Kind::kDict) || v.is(Kind::kLoop) || v.is_undefined();
}
bool is_sequence(const Value& v) {
  if (v.is(Kind::kList)) return !v.is_list(ListKind::kGenerator) && !v.is_list(ListKind::kView);
  return v.is_string() || v.is(Kind::kDict) || v.is_undefined();
}
bool is_callable(const Value& v) {
  return v.is(Kind::kFunction) || v.is(Kind::kMacro) || v.is(Kind::kMethod) || v.is(Kind::kLoop) ||
         v.is(Kind::kJoiner) || v.is_undefined();
}
bool is_escaped(const Value&) { return false; }

Result<Value> is_lower(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::string text = TRY(text_of(environment.heap, value));
  return Value(lower(text) == text && upper(text) != text);
}

Result<Value> is_upper(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  const std::string text = TRY(text_of(environment.heap, value));
  return Value(upper(text) == text && lower(text) != text);
}

Result<Value> remainder_is(Environment& environment, const Value& value, int64_t divisor, int64_t wanted) {
  const Value rest = TRY(binary(environment.heap, BinaryOp::kModulo, value, Value(divisor)));
  return Value(TRY(equals(environment.heap, rest, Value(wanted))));
}

Result<Value> is_odd(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return remainder_is(environment, value, 2, 1);
}

Result<Value> is_even(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return remainder_is(environment, value, 2, 0);
}

Result<Value> is_divisibleby(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"num"}, 1));
  const Value rest = TRY(binary(environment.heap, BinaryOp::kModulo, value, bound[0]));
  return Value(TRY(equals(environment.heap, rest, Value(int64_t{0}))));
}

template <CompareOp kOp>
Result<Value> compares(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"other"}, 1));
  return Value(TRY(compare(environment.heap, kOp, value, bound[0])));
}

Result<Value> is_sameas(Environment& environment, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"other"}, 1));
  if (value.kind() != bound[0].kind()) return Value(false);
  if (value.is(Kind::kList) || value.is(Kind::kDict)) return Value(value.object() == bound[0].object());
  return Value(TRY(equals(environment.heap, value, bound[0])));
}

Result<Value> names_filter(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return Value(find_filter(TRY(text_of(environment.heap, value))) != nullptr);
}

Result<Value> names_test(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  return Value(find_test(TRY(text_of(environment.heap, value))) != nullptr);
}

constexpr std::array kTests{
    Builtin{"defined", property<is_defined>},
    Builtin{"undefined", property<is_undefined>},
    Builtin{"none", property<is_none>},
    Builtin{"string", property<is_string>},
    Builtin{"mapping", property<is_mapping>},
    Builtin{"number", property<is_number>},
    Builtin{"integer", property<is_integer>},
    Builtin{"float", property<is_float>},
    Builtin{"boolean", property<is_boolean>},
    Builtin{"true", property<is_true>},
    Builtin{"false", property<is_false>},
    Builtin{"iterable", property<is_iterable>},
    Builtin{"sequence", property<is_sequence>},
    Builtin{"callable", property<is_callable>},
    Builtin{"escaped", property<is_escaped>},
    Builtin{"lower", is_lower},
    Builtin{"upper", is_upper},
    Builtin{"odd", is_odd},
    Builtin{"even", is_even},
    Builtin{"divisibleby", is_divisibleby},
    Builtin{"eq", compares<CompareOp::kEqual>},
    Builtin{"equalto", compares<CompareOp::kEqual>},
    Builtin{"==", compares<CompareOp::kEqual>},
    Builtin{"ne", compares<CompareOp::kNotEqual>},
    Builtin{"!=", compares<CompareOp::kNotEqual>},
    Builtin{"lt", compares<CompareOp::kLess>},
    Builtin{"lessthan", compares<CompareOp::kLess>},
    Builtin{"<", compares<CompareOp::kLess>},
    Builtin{"le", compares<CompareOp::kLessEqual>},
    Builtin{"<=", compares<CompareOp::kLessEqual>},
    Builtin{"gt", compares<CompareOp::kGreater>},
    Builtin{"greaterthan", compares<CompareOp::kGreater>},
    Builtin{">", compares<CompareOp::kGreater>},
    Builtin{"ge", compares<CompareOp::kGreaterEqual>},
    Builtin{">=", compares<CompareOp::kGreaterEqual>},
    Builtin{"in", compares<CompareOp::kIn>},
    Builtin{"sameas", is_sameas},
    Builtin{"filter", names_filter},
    Builtin{"test", names_test},
};
}  // namespace

const Builtin* find_test(std::string_view name) { return find_in(kTests, name); }

}  // namespace hearth::jinja
