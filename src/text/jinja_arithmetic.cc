#include <cmath>

#include "base/limits.h"
#include "text/jinja_operations.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
std::unexpected<Error> overflow() { return fail(Code::kLimit, "an integer result does not fit 64 bits"); }
std::unexpected<Error> zero_division() { return fail(Code::kMalformed, "division by zero"); }

// Rounds towards minus infinity, as Python does.
int64_t floor_quotient(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double real_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) rest += b;
  } else {
    rest = std::copysign(0.0, b);
  }
  return rest;
}

double real_floor_quotient(double a, double b) {
  const double rest = real_modulo(a, b);
  const double quotient = (a - rest) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Result<Value> integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return zero_division();
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow();
  }
  return Value(result);
}

Result<Value> integers(BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      return __builtin_add_overflow(a, b, &result) ? Result<Value>(overflow()) : Value(result);
    case BinaryOp::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? Result<Value>(overflow()) : Value(result);
    case BinaryOp::kMultiply:
      return __builtin_mul_overflow(a, b, &result) ? Result<Value>(overflow()) : Value(result);
    case BinaryOp::kPower:
      return integer_power(a, b);
    default:
      break;
  }
  if (b == 0) return zero_division();
  if (op == BinaryOp::kDivide) return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the one quotient that may overflow
    if (op == BinaryOp::kModulo) return Value(int64_t{0});
    return __builtin_sub_overflow(int64_t{0}, a, &result) ? Result<Value>(overflow()) : Value(result);
  }
  const int64_t quotient = floor_quotient(a, b);
  return Value(op == BinaryOp::kFloorDivide ? quotient : a - quotient * b);
}

Result<Value> reals(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value(a + b);
    case BinaryOp::kSubtract:
      return Value(a - b);
    case BinaryOp::kMultiply:
      return Value(a * b);
    case BinaryOp::kPower: {
      if (a == 0 && b < 0) return zero_division();
      const double result = std::pow(a, b);
      if (std::isnan(result) && !std::isnan(a) && !std::isnan(b))
        return fail(Code::kUnsupported, "a power that is a complex number");
      if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) return fail(Code::kLimit, "a power is too large");
      return Value(result);
    }
    default:
      break;
  }
  if (b == 0) return zero_division();
  if (op == BinaryOp::kDivide) return Value(a / b);
  return Value(op == BinaryOp::kModulo ? real_modulo(a, b) : real_floor_quotient(a, b));
}

Result<uint64_t> repeated_size(uint64_t size, int64_t times) {
  uint64_t total = 0;
  if (__builtin_mul_overflow(size, static_cast<uint64_t>(std::max<int64_t>(times, 0)), &total) ||
      total > limits::kTemplateMemoryBytes)
    return fail(Code::kLimit, "repeating a value {} times passes the memory limit of {} bytes", times,
                limits::kTemplateMemoryBytes);
  return total;
}

Result<Value> repeat(Heap& heap, const Value& value, int64_t times) {
  if (value.is_string()) {
    const uint64_t size = TRY(repeated_size(value.text().size(), times));
    std::string text;
    text.reserve(size);
    while (text.size() < size) text += value.text();
    return heap.string(std::move(text));
  }
  const uint64_t size = TRY(repeated_size(value.items().size() * sizeof(Value), times)) / sizeof(Value);
  TRY(heap.work(size));
  std::vector<Value> items;
  items.reserve(size);
  while (items.size() < size) items.insert(items.end(), value.items().begin(), value.items().end());
  return heap.list(std::move(items), value.object()->list_kind);
}

bool is_plain_sequence(const Value& value) {
  return value.is_string() ||
         (value.is(Kind::kList) && (value.is_list(ListKind::kList) || value.is_list(ListKind::kTuple)));
}

Result<Value> add_sequences(Heap& heap, const Value& a, const Value& b) {
  if (a.is_string()) {
    TRY(repeated_size(a.text().size() + b.text().size(), 1));
    std::string text;
    text.reserve(a.text().size() + b.text().size());
    return heap.string(std::move(text.append(a.text()).append(b.text())));
  }
  TRY(heap.work(a.items().size() + b.items().size()));
  std::vector<Value> items;
  items.reserve(a.items().size() + b.items().size());
  items.insert(items.end(), a.items().begin(), a.items().end());
  items.insert(items.end(), b.items().begin(), b.items().end());
  return heap.list(std::move(items), a.object()->list_kind);
}
}  // namespace

Result<Value> binary(Heap& heap, BinaryOp op, const Value& a, const Value& b) {
  static constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};
  if (a.is_integer() && b.is_integer()) return integers(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return reals(op, a.real(), b.real());
  if (op == BinaryOp::kModulo && a.is_string()) {
    if (b.is_list(ListKind::kTuple)) return format_percent(heap, a.text(), b.items(), Value::none());
    return format_percent(heap, a.text(), {b}, b);
  }
  const bool same = a.kind() == b.kind() && (!a.is(Kind::kList) || a.object()->list_kind == b.object()->list_kind);
  if (op == BinaryOp::kAdd && same && is_plain_sequence(a)) return add_sequences(heap, a, b);
  if (op == BinaryOp::kMultiply && is_plain_sequence(a) && b.is_integer()) return repeat(heap, a, b.integer());
  if (op == BinaryOp::kMultiply && is_plain_sequence(b) && a.is_integer()) return repeat(heap, b, a.integer());
  if (a.is_undefined()) return undefined_error(a);
  if (b.is_undefined()) return undefined_error(b);
  return fail(Code::kMalformed, "'{}' does not work on values of types {} and {}", kSigns[static_cast<size_t>(op)],
              type_name(a), type_name(b));
}

Result<Value> unary(Heap&, char op, const Value& value) {
  if (op == '!') return Value(!truth(value));
  if (!value.is_number()) return type_error("no sign has", value);
  if (value.is(Kind::kFloat)) return Value(op == '-' ? -value.real() : value.real());
  if (op == '+') return Value(value.integer());
  int64_t result = 0;
  if (__builtin_sub_overflow(int64_t{0}, value.integer(), &result)) return overflow();
  return Value(result);
}

}  // namespace hearth::jinja
