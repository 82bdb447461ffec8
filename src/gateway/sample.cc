#include "gateway/sample.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

#include "base/json.h"
#include "base/limits.h"
#include "text/utf8.h"

namespace hearth::gateway {
namespace {

constexpr int64_t kClockSkewMs = 10'000;

std::optional<bool> bool_of_text(std::string_view text, const BoolTexts& texts) {
  if (!texts.on.empty() && text == texts.on) return true;
  if (!texts.off.empty() && text == texts.off) return false;
  if (!texts.on.empty() || !texts.off.empty()) return std::nullopt;
  std::string lower(text.substr(0, 6));
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "true" || lower == "on" || lower == "1") return true;
  if (lower == "false" || lower == "off" || lower == "0") return false;
  return std::nullopt;
}

std::optional<double> number_of_text(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '+')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// Text of a device goes to screens, logs and JSON: UTF-8 without control characters.
bool printable(std::string_view text) {
  for (size_t i = 0; i < text.size(); i++) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return false;
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0)
      return false;  // U+0080 to U+009F
  }
  return is_utf8(text);
}

Value empty_value(SignalType type) {
  if (type == SignalType::kBool) return false;
  if (type == SignalType::kNumber) return 0.0;
  return std::string();
}

bool believable(const Value& value) {
  if (const auto* number = std::get_if<double>(&value)) return std::isfinite(*number);
  if (const auto* text = std::get_if<std::string>(&value))
    return text->size() <= limits::kGatewayTextBytes && printable(*text);
  return true;
}

}  // namespace

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Sample make_sample(const Signal& signal, SignalId id, const std::optional<Value>& given, int64_t time_ms, int64_t now) {
  const bool from_the_future = time_ms < 0 || time_ms - now > kClockSkewMs;
  Sample sample{id, {}, from_the_future ? now : time_ms, Quality::kGood};
  if (from_the_future || !given || given->index() != static_cast<size_t>(signal.type) || !believable(*given)) {
    sample.value = empty_value(signal.type);
    sample.quality = Quality::kBad;
    return sample;
  }
  sample.value = *given;
  if (const auto* number = std::get_if<double>(&sample.value);
      number != nullptr && (*number < signal.min || *number > signal.max))
    sample.quality = Quality::kOutOfRange;
  else if (signal.max_age.count() > 0 && now - time_ms > signal.max_age.count())
    sample.quality = Quality::kStale;
  return sample;
}

std::optional<Value> value_of_text(SignalType type, std::string_view text, const BoolTexts& texts) {
  if (type == SignalType::kText) return Value(std::string(text.substr(0, limits::kGatewayTextBytes + 1)));
  if (type == SignalType::kBool) {
    if (const auto flag = bool_of_text(text, texts)) return Value(*flag);
  } else if (const auto number = number_of_text(text)) {
    return Value(*number);
  }
  return std::nullopt;
}

std::optional<Value> value_of_json(SignalType type, const boost::json::value& json, const BoolTexts& texts) {
  if (json.is_string()) return value_of_text(type, json.get_string(), texts);
  if (json.is_bool()) {
    if (type == SignalType::kNumber) return std::nullopt;
    if (type == SignalType::kText) return Value(std::string(json.get_bool() ? "true" : "false"));
    return texts.on.empty() ? std::optional(Value(json.get_bool()))
                            : value_of_text(type, json.get_bool() ? "true" : "false", texts);
  }
  if (!json.is_number()) return std::nullopt;
  const double number = json.is_double()  ? json.get_double()
                        : json.is_int64() ? static_cast<double>(json.get_int64())
                                          : static_cast<double>(json.get_uint64());
  if (type == SignalType::kNumber) return Value(number);
  return value_of_text(type, text_of(Value(number)), texts);
}

std::string text_of(const Value& value, const BoolTexts& texts) {
  if (const auto* flag = std::get_if<bool>(&value)) {
    const std::string& text = *flag ? texts.on : texts.off;
    return !text.empty() ? text : *flag ? "true" : "false";
  }
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return fmt::format("{}", std::get<double>(value));
}

boost::json::value json_of(const Value& value, const BoolTexts& texts) {
  if (const auto* flag = std::get_if<bool>(&value); flag != nullptr && texts.on.empty()) return *flag;
  if (const auto* number = std::get_if<double>(&value)) {
    if (*number == std::floor(*number) && std::abs(*number) < 1e15) return static_cast<int64_t>(*number);
    return *number;
  }
  return boost::json::value(text_of(value, texts));
}

std::string_view name_of(Quality quality) {
  constexpr std::array<std::string_view, 4> kNames = {"good", "stale", "out_of_range", "bad"};
  return kNames[static_cast<size_t>(quality)];
}

Result<boost::json::value> message_json(std::string_view payload) {
  return parse_json(payload, {.depth = limits::kGatewayJsonDepth, .bytes = limits::kGatewayMessageBytes});
}

const boost::json::value* find_pointer(const boost::json::value& json, std::string_view pointer) {
  boost::json::error_code error;
  return json.find_pointer(pointer, error);
}

Result<Place> read_place(const ConfigTable& table) {
  Place place;
  place.pointer = TRY(table.text("pointer", ""));
  if (!place.pointer.empty() && place.pointer[0] != '/')
    return table.wrong("pointer", "has to begin with /, as in \"/temperature\"");
  place.texts.on = TRY(table.text("on", ""));
  place.texts.off = TRY(table.text("off", ""));
  return place;
}

std::optional<Value> Payload::value(SignalType type, const Place& place) {
  if (place.pointer.empty()) return value_of_text(type, text_, place.texts);
  const boost::json::value* found = at(place.pointer);
  return found == nullptr ? std::nullopt : value_of_json(type, *found, place.texts);
}

bool Payload::json() {
  if (!json_) json_ = message_json(text_);
  return json_->has_value();
}

}  // namespace hearth::gateway
