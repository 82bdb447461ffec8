#include "text/jinja_format.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "text/jinja_operations.h"
#include "text/jinja_text.h"

namespace hearth::jinja {

Result<void> check_text_size(uint64_t bytes) {
  if (bytes <= limits::kTemplateMemoryBytes) return {};
  return fail(Code::kLimit, "a text of {} bytes passes the memory limit of {}", bytes, limits::kTemplateMemoryBytes);
}

Result<Value> replace_bounded(Heap& heap, std::string_view text, std::string_view from, std::string_view to,
                              int64_t count) {
  TRY(heap.work_bytes(text.size()));
  uint64_t hits = 0;
  if (from.empty()) {
    hits = text.size() + 1;
  } else {
    for (size_t at = 0; (at = text.find(from, at)) != std::string_view::npos; at += from.size()) ++hits;
  }
  TRY(heap.work(hits / 2));
  if (count >= 0) hits = std::min(hits, static_cast<uint64_t>(count));
  TRY(check_text_size(text.size() + hits * std::min<uint64_t>(to.size(), limits::kTemplateMemoryBytes)));
  return heap.string(replaced(text, from, to, count));
}

Result<Value> pad_text(Heap& heap, std::string_view text, int64_t width, std::string_view fill, int side) {
  const int64_t missing = std::max<int64_t>(width - std::min(width, code_points(text)), 0);
  TRY(check_text_size(text.size() + static_cast<uint64_t>(missing) * fill.size()));
  // Python's center puts the odd blank left if width is odd.
  const int64_t left = side > 0 ? missing : side < 0 ? 0 : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return heap.string(std::move(out));
}

namespace {
struct FormatSpec {
  std::string fill = " ";
  char align = '\0', sign = '-', type = '\0';
  bool alternate = false, grouped = false;
  int64_t width = 0, precision = -1;
};
constexpr int64_t kWidthMax = 1 << 20, kPrecisionMax = 300;

Result<int64_t> read_number(std::string_view text, size_t& at, int64_t most) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > most) return fail(Code::kLimit, "a width or precision over {} in a format", most);
  }
  return value;
}

std::string grouped(std::string digits) {
  const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t i = end; i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

// Digits of the magnitude, without sign.
Result<std::string> number_digits(const FormatSpec& spec, const Value& value, char type) {
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  if (type == 'd' || type == 'x' || type == 'X' || type == 'o' || type == 'b') {
    if (!value.is_number()) return type_error("a number is needed, not", value);
    if (value.is(Kind::kFloat) && !(std::fabs(value.real()) < 0x1p63))
      return fail(Code::kLimit, "a float too large for an integer");
    const int64_t whole = value.is(Kind::kFloat) ? static_cast<int64_t>(value.real()) : value.integer();
    const uint64_t magnitude = whole < 0 ? 0 - static_cast<uint64_t>(whole) : static_cast<uint64_t>(whole);
    if (type == 'x') return fmt::format("{}{:x}", spec.alternate ? "0x" : "", magnitude);
    if (type == 'X') return fmt::format("{}{:X}", spec.alternate ? "0X" : "", magnitude);
    if (type == 'o') return fmt::format("{}{:o}", spec.alternate ? "0o" : "", magnitude);
    if (type == 'b') return fmt::format("{}{:b}", spec.alternate ? "0b" : "", magnitude);
    return fmt::format("{}", magnitude);
  }
  if (!value.is_number()) return type_error("a number is needed, not", value);
  const double magnitude = std::fabs(value.real());
  if (type == '%') return fmt::format("{:.{}f}%", magnitude * 100, precision);
  if (type == 'e' || type == 'E') return fmt::format("{:.{}e}", magnitude, precision);
  if (type == 'g' || type == 'G') return fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
  return fmt::format("{:.{}f}", magnitude, precision);
}

Result<std::string> formatted_number(const FormatSpec& spec, const Value& value, char type) {
  std::string digits = TRY(number_digits(spec, value, type));
  const bool negative = value.is(Kind::kFloat) ? std::signbit(value.real()) : value.integer() < 0;
  if (spec.grouped) digits = grouped(std::move(digits));
  std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  if (spec.align == '=')
    while (static_cast<int64_t>(sign.size() + digits.size()) < spec.width) sign += spec.fill;
  return sign + digits;
}

Result<std::string> padded(Heap& heap, const FormatSpec& spec, std::string text, bool number) {
  const char align = spec.align != '\0' ? spec.align : number ? '>' : '<';
  const int side = align == '<' ? -1 : align == '^' ? 0 : 1;
  if (side == 0) {  // format centres with the odd blank right
    const int64_t missing = std::max<int64_t>(spec.width - code_points(text), 0);
    for (int64_t i = 0; i < missing / 2; ++i) text.insert(0, spec.fill);
    return std::string(TRY(pad_text(heap, text, spec.width, spec.fill, -1)).text());
  }
  return std::string(TRY(pad_text(heap, text, spec.width, spec.fill, side)).text());
}

Result<std::string> formatted(Heap& heap, const FormatSpec& spec, const Value& value) {
  const bool plain_number = value.is_number() && !value.is(Kind::kBool);
  char type = spec.type;
  if (type == 's' || (type == '\0' && !plain_number) ||
      (type == '\0' && spec.precision < 0 && value.is(Kind::kFloat))) {
    std::string text = TRY(text_of(heap, value));
    if (spec.precision >= 0 && code_points(text) > spec.precision)
      text.resize(code_point_offsets(text)[static_cast<size_t>(spec.precision)]);
    return padded(heap, spec, std::move(text), plain_number);
  }
  if (type == '\0') type = value.is(Kind::kFloat) ? 'g' : 'd';
  if (std::string_view("dxXobfFeEgG%").find(type) == std::string_view::npos)
    return fail(Code::kUnsupported, "format type '{}'", type);
  return padded(heap, spec, TRY(formatted_number(spec, value, type)), true);
}

Result<FormatSpec> parse_spec(std::string_view text) {
  FormatSpec spec;
  size_t at = 0;
  size_t after_fill = 0;
  if (!text.empty()) next_code_point(text, after_fill);
  auto is_align = [&](size_t i) {
    return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
  };
  if (is_align(after_fill)) {
    spec.fill = text.substr(0, after_fill);
    spec.align = text[after_fill];
    at = after_fill + 1;
  } else if (is_align(0)) {
    spec.align = text[0];
    at = 1;
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternate = ++at != 0;
  if (at < text.size() && text[at] == '0' && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = TRY(read_number(text, at, kWidthMax));
  if (at < text.size() && text[at] == ',') spec.grouped = ++at != 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    spec.precision = TRY(read_number(text, at, kPrecisionMax));
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) return fail(Code::kMalformed, "bad format '{}'", text.substr(0, 40));
  return spec;
}
}  // namespace

Result<Value> format_braces(Heap& heap, std::string_view format, std::span<const Value> positional,
                            std::span<const Value> names, std::span<const Value> named) {
  std::string out;
  size_t automatic = 0;
  for (size_t at = 0; at < format.size();) {
    const char c = format[at++];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (at < format.size() && format[at] == c) {
      out += c;
      ++at;
      continue;
    }
    const size_t close = format.find('}', at);
    if (c == '}' || close == std::string_view::npos) return fail(Code::kMalformed, "a single '{}' in a format", c);
    const std::string_view field = format.substr(at, close - at);
    at = close + 1;
    const size_t colon = std::min(field.find(':'), field.size());
    const std::string_view name = field.substr(0, colon);
    const FormatSpec spec = TRY(parse_spec(field.substr(std::min(colon + 1, field.size()))));
    Value value = Value::absent();
    if (name.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t i = 0;
      const auto index = static_cast<size_t>(TRY(read_number(name, i, kWidthMax)));
      const size_t chosen = name.empty() ? automatic++ : index;
      if (chosen < positional.size()) value = positional[chosen];
    } else {
      for (size_t i = 0; i < names.size(); ++i)
        if (names[i].text() == name) value = named[i];
    }
    if (value.is_absent()) return fail(Code::kMalformed, "no argument for '{{{}}}' of a format", name.substr(0, 40));
    out += TRY(formatted(heap, spec, value));
    TRY(check_text_size(out.size()));
  }
  return heap.string(std::move(out));
}

Result<Value> format_percent(Heap& heap, std::string_view format, const std::vector<Value>& arguments,
                             const Value& names) {
  std::string out;
  size_t used = 0;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      const size_t end = std::min(format.find('%', at), format.size());
      out += format.substr(at, end - at);
      at = end;
      continue;
    }
    ++at;
    if (at < format.size() && format[at] == '%') {
      out += format[at++];
      continue;
    }
    Value value = Value::absent();
    if (at < format.size() && format[at] == '(') {
      const size_t close = format.find(')', at);
      if (close == std::string_view::npos || !names.is(Kind::kDict))
        return fail(Code::kMalformed, "bad '%(' in a format");
      const Value key = TRY(heap.string(std::string(format.substr(at + 1, close - at - 1))));
      if (const Value* found = TRY(find(heap, names, key))) value = *found;
      at = close + 1;
      used = arguments.size();
    }
    FormatSpec spec;
    spec.align = '>';
    for (; at < format.size() && std::string_view("-+ #0").find(format[at]) != std::string_view::npos; ++at) {
      if (format[at] == '-') spec.align = '<';
      if (format[at] == '+' || format[at] == ' ') spec.sign = format[at];
      if (format[at] == '#') spec.alternate = true;
      if (format[at] == '0' && spec.align != '<') spec.fill = "0", spec.align = '=';
    }
    spec.width = TRY(read_number(format, at, kWidthMax));
    if (at < format.size() && format[at] == '.') {
      ++at;
      spec.precision = TRY(read_number(format, at, kPrecisionMax));
    }
    if (at >= format.size()) return fail(Code::kMalformed, "a format ends after '%'");
    spec.type = format[at++] == 'i' ? 'd' : format[at - 1];
    if (value.is_absent()) {
      if (used >= arguments.size())
        return fail(Code::kMalformed, "a format needs more than {} arguments", arguments.size());
      value = arguments[used++];
    }
    if (spec.type == 'r' || spec.type == 'a') {
      std::string text;
      TRY(append_repr(heap, text, value));
      value = TRY(heap.string(std::move(text)));
      spec.type = 's';
    }
    if (spec.type == 's' && spec.align == '=') spec.align = '>', spec.fill = " ";
    out += TRY(formatted(heap, spec, value));
    TRY(check_text_size(out.size()));
  }
  const bool lone_value = arguments.size() == 1 && names.kind() == arguments[0].kind() && names.is(Kind::kDict);
  if (used < arguments.size() && !lone_value) return fail(Code::kMalformed, "a format leaves arguments over");
  return heap.string(std::move(out));
}

}  // namespace hearth::jinja
