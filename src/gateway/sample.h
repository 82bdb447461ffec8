// What a device says, made into a sample: the one place where its value is judged by the signal's type, range and time.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/config.h"
#include "gateway/signal.h"

namespace hearth::gateway {

int64_t now_ms();  // since 1970

// Never fails: a value that is missing, of a wrong type, not finite or too long, or whose time lies more than 10 s ahead, becomes
// kBad (with an empty value, and `now` as its time where that is the fault), one outside the range kOutOfRange, an old one kStale.
Sample make_sample(const Signal& signal, SignalId id, const std::optional<Value>& given, int64_t time_ms, int64_t now);

// How a signal's two states are written elsewhere ("ON", "OFF"). What is empty is read as true, on, 1 or false, off, 0.
struct BoolTexts {
  std::string on, off;
};
// The value that a signal of this type has when it is written so; empty: none.
std::optional<Value> value_of_text(SignalType type, std::string_view text, const BoolTexts& texts = {});
std::optional<Value> value_of_json(SignalType type, const boost::json::value& json, const BoolTexts& texts = {});
// The way back. Whole numbers have no point.
std::string text_of(const Value& value, const BoolTexts& texts = {});
boost::json::value json_of(const Value& value, const BoolTexts& texts = {});

std::string_view name_of(Quality quality);  // "good", "stale", "out_of_range", "bad"

// A payload as JSON (limits kGatewayMessageBytes, kGatewayJsonDepth), or what stands at a JSON pointer (RFC 6901) in it. Null: nothing.
Result<boost::json::value> message_json(std::string_view payload);
const boost::json::value* find_pointer(const boost::json::value& json, std::string_view pointer);

// Where a value stands in a payload: at a JSON pointer, or (empty) the payload is the value.
struct Place {
  std::string pointer;
  BoolTexts texts;
};
// An adapter's entries `pointer`, `on`, `off`.
Result<Place> read_place(const ConfigTable& table);

// A payload as one or several places want it: parsed as JSON when the first of them asks.
class Payload {
 public:
  explicit Payload(std::string_view text) : text_(text) {}
  std::optional<Value> value(SignalType type, const Place& place);
  // Whether it is JSON that does not speak of this place: devices send parts of their state.
  bool silent(const Place& place) { return !place.pointer.empty() && json() && at(place.pointer) == nullptr; }

 private:
  const boost::json::value* at(std::string_view pointer) { return json() ? find_pointer(**json_, pointer) : nullptr; }
  bool json();
  std::string_view text_;
  std::optional<Result<boost::json::value>> json_;
};

}  // namespace hearth::gateway
