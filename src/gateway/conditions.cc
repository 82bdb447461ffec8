#include "gateway/conditions.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace hearth::gateway {
namespace {

struct Sign {
  std::string_view text;
  Compare compare;
};
// Longer ones first.
constexpr std::array kSigns{Sign{"<=", Compare::kAtMost},    Sign{">=", Compare::kAtLeast}, Sign{"==", Compare::kEqual},
                            Sign{"!=", Compare::kDifferent}, Sign{"<", Compare::kBelow},    Sign{">", Compare::kAbove}};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::optional<Value> read_value(std::string_view text, SignalType type) {
  if (type == SignalType::kBool) {
    if (text == "true") return true;
    if (text == "false") return false;
    return std::nullopt;
  }
  if (type == SignalType::kText) {
    if (text.size() < 2 || text.front() != '\'' || text.back() != '\'') return std::nullopt;
    return std::string(text.substr(1, text.size() - 2));
  }
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

}  // namespace

const Value* View::good(SignalId signal) const {
  const Current& current = values[signal];
  if (current.quality != Quality::kGood) return nullptr;
  const int64_t most = signals[signal].max_age.count();
  return most > 0 && now.steady_ms - current.heard_ms > most ? nullptr : &current.value;
}

std::string shown(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const double* number = std::get_if<double>(&value)) return fmt::format("{:.6g}", *number);
  return std::get<std::string>(value);
}

bool has_type(const Value& value, SignalType type) { return value.index() == static_cast<size_t>(type); }

std::optional<SignalId> find_signal(std::span<const Signal> signals, std::string_view name) {
  const auto found = std::ranges::find(signals, name, &Signal::name);
  if (found == signals.end()) return std::nullopt;
  return static_cast<SignalId>(found - signals.begin());
}

std::optional<bool> Condition::holds(const View& view) const {
  const Value* now = view.good(signal);
  if (now == nullptr || now->index() != value.index()) return std::nullopt;
  switch (compare) {
    case Compare::kBelow:
      return *now < value;
    case Compare::kAtMost:
      return *now <= value;
    case Compare::kAbove:
      return *now > value;
    case Compare::kAtLeast:
      return *now >= value;
    case Compare::kEqual:
      return *now == value;
    case Compare::kDifferent:
      return *now != value;
  }
  return std::nullopt;
}

Result<Condition> parse_condition(std::string_view text, std::span<const Signal> signals) {
  const size_t at = text.find_first_of("<>=!");
  if (at == std::string_view::npos)
    return fail(Code::kInvalidArgument, "'{}' compares nothing; write: SIGNAL > 9.5, or <, >=, <=, ==, !=", text);
  const std::string_view left = trimmed(text.substr(0, at)), rest = text.substr(at);
  const auto sign = std::ranges::find_if(kSigns, [&](const Sign& each) { return rest.starts_with(each.text); });
  if (sign == kSigns.end()) return fail(Code::kInvalidArgument, "'{}' has no comparison like >, <=, == or !=", text);
  const auto signal = find_signal(signals, left);
  if (!signal) return fail(Code::kInvalidArgument, "'{}': no signal '{}'", text, left);
  const SignalType type = signals[*signal].type;
  const auto value = read_value(trimmed(rest.substr(sign->text.size())), type);
  constexpr std::array<std::string_view, 3> kForms{"true or false", "a number", "a text in 'single quotes'"};
  if (!value)
    return fail(Code::kInvalidArgument, "'{}': {} is compared with {}", text, left, kForms[static_cast<size_t>(type)]);
  if (type != SignalType::kNumber && sign->compare != Compare::kEqual && sign->compare != Compare::kDifferent)
    return fail(Code::kInvalidArgument, "'{}': {} is no number; use == or !=", text, left);
  return Condition{*signal, sign->compare, *value, std::string(text)};
}

}  // namespace hearth::gateway
