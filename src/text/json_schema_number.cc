// Numbers between bounds, digit by digit. Fifteen digits behind the point at most and no exponent where there are bounds: what is
// left survives the reader's conversion to a double.
#include <array>
#include <charconv>
#include <cmath>

#include "base/limits.h"
#include "text/json_schema.h"

namespace hearth {
namespace {

using Part = GrammarBuilder::Part;

constexpr size_t kIntegerDigits = 18;  // fits 64 bits
constexpr size_t kWholeDigits = 15, kFractionDigits = 15;

// Not negative; neither leading zeros (but one digit at least) nor trailing ones.
struct Decimal {
  std::string whole = "0", fraction;
};
struct Bound {
  Decimal at;
  bool negative = false;
  bool exclusive = false;
};

// Empty: too far out to be a bound of what we write.
std::optional<Bound> bound_of(const boost::json::value& value) {
  std::string text = value.is_double() ? fmt::format("{:.40f}", value.get_double()) : json_text(value);
  if (value.is_double()) {
    // The shortest decimal that is this double, where it has one without an exponent.
    const std::string shortest = fmt::format("{}", value.get_double());
    if (shortest.find('e') == std::string::npos) text = shortest;
  }
  Bound bound;
  bound.negative = text.starts_with('-');
  if (bound.negative) text.erase(0, 1);
  const size_t point = std::min(text.find('.'), text.size());
  bound.at.whole = text.substr(0, point);
  if (point < text.size()) bound.at.fraction = text.substr(point + 1);
  while (bound.at.fraction.ends_with('0')) bound.at.fraction.pop_back();
  if (bound.at.whole.size() > kIntegerDigits) return std::nullopt;
  if (bound.at.whole == "0" && bound.at.fraction.empty()) bound.negative = false;
  return bound;
}

// All decimals between two, by the automaton of (place, equal to the lower so far, equal to the upper so far).
class Between {
 public:
  Between(GrammarBuilder& builder, std::optional<Bound> low, std::optional<Bound> high, size_t whole_max,
          size_t fraction_max)
      : builder_(builder),
        low_(std::move(low)),
        high_(std::move(high)),
        whole_max_(whole_max),
        fraction_max_(fraction_max),
        out_(builder.new_state()) {}

  Part part() {
    std::vector<uint32_t> begins;
    for (size_t length = 1; length <= whole_max_; ++length) {
      const size_t low_length = low_ ? low_->at.whole.size() : 0;
      const size_t high_length = high_ ? high_->at.whole.size() : whole_max_ + 1;
      if (length < low_length || length > high_length) continue;
      begins.push_back(whole(length, length == low_length, length == high_length));
    }
    const Part part{builder_.new_state(), out_};
    builder_.set_split(part.in, begins);
    return part;
  }

 private:
  using Ends = std::array<uint32_t, 4>;  // by [2 * equal to low + equal to high]

  // A state that reads one digit.
  uint32_t digit(const Ends& next, size_t equal, char low, char high, char least) {
    const bool to_low = (equal & 2) != 0;
    const bool to_high = (equal & 1) != 0;
    std::vector<GrammarEdge> edges;
    for (char d = std::max(least, to_low ? low : '0'); d <= (to_high ? high : '9'); ++d) {
      const size_t still = (to_low && d == low ? 2u : 0u) + (to_high && d == high ? 1u : 0u);
      edges.push_back({static_cast<uint8_t>(d), static_cast<uint8_t>(d), next[still]});
    }
    const uint32_t state = builder_.new_state();
    builder_.set_edges(state, edges);
    return state;
  }

  uint32_t whole(size_t length, bool to_low, bool to_high) {
    Ends next = after_whole();
    for (size_t i = length; i-- > 0;) {
      Ends states{};
      for (size_t equal = 0; equal < 4; ++equal) {
        if (((equal & 2) != 0 && !to_low) || ((equal & 1) != 0 && !to_high)) continue;
        const char low = to_low ? low_->at.whole[i] : '0';
        const char high = to_high ? high_->at.whole[i] : '9';
        states[equal] = digit(next, equal, low, high, i == 0 && length > 1 ? '1' : '0');
      }
      next = states;
    }
    return next[(to_low ? 2u : 0u) + (to_high ? 1u : 0u)];
  }

  // Whether the number may end after so many digits behind the point.
  [[nodiscard]] bool may_end(size_t n_digits, size_t equal) const {
    if ((equal & 2) != 0 && (n_digits < low_->at.fraction.size() || low_->exclusive)) return false;
    return (equal & 1) == 0 || n_digits < high_->at.fraction.size() || !high_->exclusive;
  }

  const Ends& after_whole() {
    if (!after_whole_.empty()) return after_whole_.front();
    const auto digit_of = [](const std::optional<Bound>& bound, size_t i) {
      return bound && i < bound->at.fraction.size() ? bound->at.fraction[i] : '0';
    };
    Ends digits{};  // states that read the digit after i digits
    for (size_t i = fraction_max_ + 1; i-- > 0;) {
      Ends ends{};
      for (size_t equal = 0; equal < 4; ++equal) {
        const bool known = ((equal & 2) == 0 || low_) && ((equal & 1) == 0 || high_);
        std::vector<uint32_t> ways;
        if (known && may_end(i, equal)) ways.push_back(out_);
        if (i < fraction_max_ && i > 0) ways.push_back(digits[equal]);
        if (i < fraction_max_ && i == 0) {
          const Part point = builder_.literal(".");
          builder_.set_split(point.out, std::array{digits[equal]});
          ways.push_back(point.in);
        }
        ends[equal] = builder_.new_state();
        builder_.set_split(ends[equal], ways);
      }
      if (i == 0) {
        after_whole_.push_back(ends);
        break;
      }
      for (size_t equal = 0; equal < 4; ++equal) {
        digits[equal] = digit(ends, equal, digit_of(low_, i - 1), digit_of(high_, i - 1), '0');
      }
    }
    return after_whole_.front();
  }

  GrammarBuilder& builder_;
  std::optional<Bound> low_, high_;
  size_t whole_max_, fraction_max_;
  uint32_t out_;
  std::vector<Ends> after_whole_;  // none or one
};

struct Bounds {
  std::optional<Bound> low, high;
  bool any = false;
};

// The stricter of `keyword` and of its exclusive form, which draft 4 wrote as a flag.
Result<std::optional<Bound>> read_bound(const SchemaAt& at, std::string_view keyword, std::string_view exclusive,
                                        double sign) {
  const boost::json::value* value = at.find(keyword);
  const boost::json::value* strict = at.find(exclusive);
  for (const auto& [name, each] : {std::pair{keyword, value}, std::pair{exclusive, strict}}) {
    const bool is_flag = name == exclusive && each != nullptr && each->is_bool();
    if (each != nullptr && !each->is_number() && !is_flag) return at.wrong(name, "is no number");
  }
  bool is_strict = false;
  if (strict != nullptr && strict->is_bool()) {
    is_strict = strict->get_bool();
  } else if (strict != nullptr &&
             (value == nullptr || sign * strict->to_number<double>() >= sign * value->to_number<double>())) {
    value = strict;
    is_strict = true;
  }
  if (value == nullptr) return std::nullopt;
  std::optional<Bound> bound = bound_of(*value);
  // Beyond what is written, a bound is either none or leaves nothing.
  if (!bound && sign * value->to_number<double>() > 0) return at.wrong(keyword, "leaves no number of 18 digits");
  if (bound) bound->exclusive = is_strict;
  return bound;
}

// n steps as a decimal number.
std::string decimal_text(int64_t n, int64_t step_digits, size_t n_fraction) {
  std::string text = fmt::format("{:0{}}", std::abs(n * step_digits), n_fraction + 1);
  std::string fraction = text.substr(text.size() - n_fraction);
  while (fraction.ends_with('0')) fraction.pop_back();
  return (n < 0 ? "-" : "") + text.substr(0, text.size() - n_fraction) + (fraction.empty() ? "" : "." + fraction);
}

// Steps from bound to bound, each a choice of its own. Readers divide doubles: multiples that do not come out whole then, such as
// 0.07 by 0.01, are left out.
Result<Part> multiples_between(GrammarBuilder& builder, const SchemaAt& at, const Bounds& bounds, double step,
                               bool integer) {
  const auto value_of = [](const Bound& bound) {
    const double value = std::strtod((bound.at.whole + "." + bound.at.fraction).c_str(), nullptr);
    return bound.negative ? -value : value;
  };
  const double low = value_of(*bounds.low);
  const double high = value_of(*bounds.high);
  const double first = std::ceil(low / step);
  const double last = std::floor(high / step);
  if (last - first > static_cast<double>(limits::kGrammarChoices) || std::abs(low) > 1e12 || std::abs(high) > 1e12) {
    return at.wrong("multipleOf", "has too many multiples between the bounds");
  }
  constexpr size_t kStepDigits = 9;
  const std::optional<Bound> decimal = bound_of(*at.find("multipleOf"));
  if (!decimal || decimal->at.whole.size() + decimal->at.fraction.size() > kStepDigits ||
      std::max(std::abs(first), std::abs(last)) > 1e9) {
    return at.wrong("multipleOf", "needs more than 9 digits");
  }
  const int64_t digits = std::strtoll((decimal->at.whole + decimal->at.fraction).c_str(), nullptr, 10);
  std::vector<std::string> choices;
  for (auto i = static_cast<int64_t>(first) - 1; i <= static_cast<int64_t>(last) + 1; ++i) {
    std::string text = decimal_text(i, digits, decimal->at.fraction.size());
    const double value = std::strtod(text.c_str(), nullptr);
    const bool outside = value < low || value > high || (bounds.low->exclusive && value == low) ||
                         (bounds.high->exclusive && value == high);
    if (outside || std::floor(value / step) != value / step || (integer && value != std::floor(value))) continue;
    choices.push_back(std::move(text));
  }
  if (choices.empty()) return at.wrong("multipleOf", "has no multiple between the bounds");
  return builder.choices(std::move(choices));
}

// Integers of at most 18 digits with a remainder of zero.
Part multiples(GrammarBuilder& builder, uint32_t step) {
  const Part number{builder.new_state(), builder.new_state()};
  std::vector<uint32_t> next(step);  // by remainder: the state after one more digit
  for (size_t n_digits = kIntegerDigits; n_digits > 0; --n_digits) {
    std::vector<uint32_t> states(step);
    for (uint32_t rest = 0; rest < step; ++rest) {
      std::vector<uint32_t> ways;
      if (rest == 0) ways.push_back(number.out);
      if (n_digits < kIntegerDigits) ways.push_back(next[rest]);
      const uint32_t reached = builder.new_state();
      builder.set_split(reached, ways);
      states[rest] = reached;
    }
    for (uint32_t rest = 0; rest < step; ++rest) {
      std::vector<GrammarEdge> edges;
      for (uint32_t d = n_digits == 1 ? 1 : 0; d <= 9; ++d) {
        const auto byte = static_cast<uint8_t>('0' + d);
        edges.push_back({byte, byte, states[(rest * 10 + d) % step]});
      }
      next[rest] = builder.new_state();
      builder.set_edges(next[rest], edges);
      if (n_digits == 1) break;
    }
  }
  builder.set_split(number.in, std::array{next[0]});
  Part all = builder.optional(builder.literal("-"));
  builder.append(all, number);
  return builder.either(std::array{builder.literal("0"), all});
}

Result<Part> multiple_part(GrammarBuilder& builder, const SchemaAt& at, const Bounds& bounds, bool integer) {
  const boost::json::value& value = *at.find("multipleOf");
  const double step = value.is_number() ? value.to_number<double>() : 0;
  if (!(step > 0)) return at.wrong("multipleOf", "is no number above 0");
  if (bounds.low && bounds.high) return multiples_between(builder, at, bounds, step, integer);
  constexpr double kStepMax = 256;
  if (bounds.any || step != std::floor(step) || step > kStepMax) {
    return at.wrong("multipleOf", "needs a minimum and a maximum, or a whole number up to 256 without either");
  }
  return multiples(builder, static_cast<uint32_t>(step));
}

Result<Bounds> read_bounds(const SchemaAt& at) {
  Bounds bounds;
  bounds.low = TRY(read_bound(at, "minimum", "exclusiveMinimum", 1));
  bounds.high = TRY(read_bound(at, "maximum", "exclusiveMaximum", -1));
  const boost::json::value* format = at.find("format");
  if (format != nullptr && format->is_string() && format->get_string() == "int32") {
    if (!bounds.low) bounds.low = Bound{{"2147483648", ""}, true, false};
    if (!bounds.high) bounds.high = Bound{{"2147483647", ""}, false, false};
  }
  bounds.any = bounds.low || bounds.high;
  return bounds;
}

// Any number, or any integer, of so many digits.
Part free_number(GrammarBuilder& builder, bool integer) {
  const CharSet digit = {{'0', '9'}};
  const auto digits = [&](uint32_t min, size_t max) {
    return builder.repeat(builder.one_of(digit), min, static_cast<uint32_t>(max));
  };
  Part whole = builder.one_of({{'1', '9'}});
  builder.append(whole, digits(0, kIntegerDigits - 1));
  if (integer) {  // no -0, which some readers take for a double
    Part negative = builder.literal("-");
    builder.append(negative, builder.one_of({{'1', '9'}}));
    builder.append(negative, digits(0, kIntegerDigits - 1));
    return builder.either(std::array{builder.literal("0"), whole, negative});
  }
  Part fraction = builder.literal(".");
  builder.append(fraction, digits(1, kFractionDigits));
  Part exponent = builder.one_of({{'e', 'e'}, {'E', 'E'}});
  builder.append(exponent, builder.optional(builder.one_of({{'+', '+'}, {'-', '-'}})));
  builder.append(exponent, digits(1, 2));
  return builder.sequence(std::array{builder.optional(builder.literal("-")),
                                     builder.either(std::array{builder.literal("0"), whole}),
                                     builder.optional(fraction), builder.optional(exponent)});
}

}  // namespace

Result<GrammarBuilder::Part> number_part(GrammarBuilder& builder, const SchemaAt& at, bool integer) {
  Bounds bounds = TRY(read_bounds(at));
  if (at.find("multipleOf") != nullptr) return multiple_part(builder, at, bounds, integer);
  const size_t whole_max = integer ? kIntegerDigits : kWholeDigits;
  size_t fraction_max = integer ? 0 : kFractionDigits;
  for (const std::optional<Bound>& bound : {bounds.low, bounds.high}) {
    if (integer || !bound || !bound->exclusive) continue;
    // Strictly below must still be below when both are doubles.
    if (bound->at.whole.size() + bound->at.fraction.size() > kFractionDigits) {
      return at.wrong("exclusiveMinimum", "and its like need a bound of at most 15 digits");
    }
    fraction_max = std::min(fraction_max, kFractionDigits - bound->at.whole.size());
  }
  if (!bounds.any) return free_number(builder, integer);
  std::vector<Part> signs;
  const Bound zero;
  const Bound above_zero{{}, false, true};
  if (!bounds.high || !bounds.high->negative) {
    const bool from_zero = !bounds.low || bounds.low->negative;
    signs.push_back(Between(builder, from_zero ? zero : bounds.low, bounds.high, whole_max, fraction_max).part());
  }
  if (!bounds.low || bounds.low->negative) {
    Part part = builder.literal("-");
    const bool to_zero = !bounds.high || !bounds.high->negative;
    builder.append(part,
                   Between(builder, to_zero ? above_zero : bounds.high, bounds.low, whole_max, fraction_max).part());
    signs.push_back(part);
  }
  return builder.either(signs);
}

}  // namespace hearth
