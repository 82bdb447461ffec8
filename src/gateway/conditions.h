// What the gateway knows at one moment, and conditions on it: "pump1/pressure > 9.5", "door/lock == true", "mode != 'away'".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/signal.h"

namespace hearth::gateway {

struct Moment {
  int64_t wall_ms = 0;    // since 1970; may jump
  int64_t steady_ms = 0;  // never jumps: ages and deadlines are counted in it
};

// The newest value of a signal. Nothing was heard yet: kBad.
struct Current {
  Value value = 0.0;
  Quality quality = Quality::kBad;
  int64_t time_ms = 0;   // as the sample says
  int64_t heard_ms = 0;  // steady
};

struct View {
  std::span<const Signal> signals;
  std::span<const Current> values;
  Moment now;
  int minute_of_day = 0;  // local
  // Null unless it is good and no older than the signal's max_age.
  [[nodiscard]] const Value* good(SignalId signal) const;
};

std::string shown(const Value& value);    // 21.5, true, text as it is
std::string_view shown(Quality quality);  // "good", "stale", "out of range", "bad"
bool has_type(const Value& value, SignalType type);
std::optional<SignalId> find_signal(std::span<const Signal> signals, std::string_view name);

enum class Compare : uint8_t { kBelow, kAtMost, kAbove, kAtLeast, kEqual, kDifferent };

struct Condition {
  SignalId signal = 0;
  Compare compare{};
  Value value;
  std::string text;  // as written
  // Nothing if the signal cannot be believed.
  [[nodiscard]] std::optional<bool> holds(const View& view) const;
};
// kInvalidArgument with what is wrong: no such signal (with the nearest), no comparison, a value of another type.
Result<Condition> parse_condition(std::string_view text, std::span<const Signal> signals);

}  // namespace hearth::gateway
