#include <charconv>
#include <cmath>
#include <optional>

#include "text/jinja_builtins.h"
#include "text/jinja_text.h"

namespace hearth::jinja {
namespace {
// Python's int(text, base) and float(text): blanks around, a sign, underscores between digits.
std::string plain_number(std::string_view text) {
  std::string plain(stripped(text, nullptr, true, true));
  if (plain.starts_with('+') && !plain.starts_with("+-")) plain.erase(0, 1);
  for (size_t i = 1; i + 1 < plain.size(); ++i)
    if (plain[i] == '_' && plain[i - 1] != '_' && plain[i + 1] != '_') plain.erase(i, 1);
  return plain;
}

std::optional<double> parse_real(std::string_view text) {
  const std::string plain = plain_number(text);
  double value = 0;
  const auto [end, status] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (end != plain.data() + plain.size() || plain.empty()) return std::nullopt;
  if (status == std::errc::result_out_of_range) return plain[0] == '-' ? -HUGE_VAL : HUGE_VAL;
  if (status != std::errc()) return std::nullopt;
  return value;
}

Result<Value> truncated(double value, const Value& otherwise) {
  if (std::isnan(value) || std::isinf(value)) return otherwise;
  if (!(std::fabs(value) < 0x1p63)) return fail(Code::kLimit, "the number does not fit 64 bits");
  return Value(static_cast<int64_t>(value));
}

Result<Value> to_int(Environment&, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"default", "base"}));
  const Value otherwise = bound[0].is_absent() ? Value(int64_t{0}) : bound[0];
  const int64_t base = TRY(integer_or(bound[1], 10, "base"));
  if (base < 2 || base > 36) return fail(Code::kMalformed, "'base' must be 2 to 36, not {}", base);
  if (value.is_integer()) return Value(value.integer());
  if (value.is(Kind::kFloat)) return truncated(value.real(), otherwise);
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_string()) return otherwise;
  std::string plain = plain_number(value.text());
  const size_t prefix = plain.starts_with('-') ? 1 : 0;
  const char letter =
      plain.size() > prefix + 2 && plain[prefix] == '0' ? static_cast<char>(plain[prefix + 1] | 0x20) : '\0';
  if ((base == 16 && letter == 'x') || (base == 2 && letter == 'b') || (base == 8 && letter == 'o'))
    plain.erase(prefix, 2);
  int64_t whole = 0;
  const auto [end, status] = std::from_chars(plain.data(), plain.data() + plain.size(), whole, static_cast<int>(base));
  if (end == plain.data() + plain.size() && !plain.empty()) {
    if (status == std::errc::result_out_of_range) return fail(Code::kLimit, "the number does not fit 64 bits");
    if (status == std::errc()) return Value(whole);
  }
  const std::optional<double> real = parse_real(value.text());
  return real ? truncated(*real, otherwise) : Result<Value>(otherwise);
}

Result<Value> to_float(Environment&, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"default"}));
  const Value otherwise = bound[0].is_absent() ? Value(0.0) : bound[0];
  if (value.is_number()) return Value(value.real());
  if (value.is_undefined()) return undefined_error(value);
  if (!value.is_string()) return otherwise;
  const std::optional<double> real = parse_real(value.text());
  return real ? Value(*real) : otherwise;
}

Result<Value> absolute(Environment& environment, const Value& value, const Arguments& arguments) {
  TRY(takes_nothing(arguments));
  if (!value.is_number()) return type_error("no absolute value has", value);
  if (value.is(Kind::kFloat)) return Value(std::fabs(value.real()));
  return value.integer() < 0 ? unary(environment.heap, '-', value) : Value(value.integer());
}

// Python's round(): decimal, ties of the exact binary value to even.
double rounded(double value, int precision) {
  if (precision > 300 || !std::isfinite(value)) return value;
  if (precision < 0) {
    const double scale = std::pow(10.0, -precision);
    return std::isfinite(scale) ? std::nearbyint(value / scale) * scale : 0.0;
  }
  double result = 0;
  const std::string text = fmt::format("{:.{}f}", value, precision);
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

Result<Value> round(Environment&, const Value& value, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"precision", "method"}));
  const int64_t precision = TRY(integer_or(bound[0], 0, "precision"));
  const std::string_view method = TRY(text_or(bound[1], "common", "method"));
  if (!value.is_number()) return type_error("cannot round", value);
  if (precision < -300 || precision > 1000) return fail(Code::kLimit, "a precision of {}", precision);
  if (method == "common") {
    if (value.is_integer() && precision >= 0) return Value(value.integer());
    const double result = rounded(value.real(), static_cast<int>(precision));
    return value.is_integer() ? truncated(result, value) : Value(result);
  }
  if (method != "ceil" && method != "floor") return fail(Code::kMalformed, "'method' must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.real() * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr std::array kNumberFilters{Builtin{"int", to_int}, Builtin{"float", to_float}, Builtin{"abs", absolute},
                                    Builtin{"round", round}};
}  // namespace

std::span<const Builtin> number_filters() { return kNumberFilters; }

}  // namespace hearth::jinja
