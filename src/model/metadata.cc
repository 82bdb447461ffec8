#include "model/metadata.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

namespace hearth {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as the file has them");

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <typename T>
constexpr bool kIsVector = false;
template <typename T>
constexpr bool kIsVector<std::vector<T>> = true;

// The number at p, which has the size of its type, as a T; false if it is no number or does not fit.
template <typename T, typename Stored>
bool convert_from(Stored stored, T& out) {
  if constexpr (std::is_floating_point_v<T>) {
    if constexpr (sizeof(T) < sizeof(Stored) && std::is_floating_point_v<Stored>) {
      if (std::isfinite(stored) && std::abs(stored) > static_cast<Stored>(std::numeric_limits<T>::max())) return false;
    }
    out = static_cast<T>(stored);
    return true;
  } else if constexpr (std::is_integral_v<Stored>) {
    if (!std::in_range<T>(stored)) return false;
    out = static_cast<T>(stored);
    return true;
  } else {
    return false;
  }
}

template <typename T>
bool convert(ValueType type, const std::byte* p, T& out) {
  switch (type) {
    case ValueType::kU8:
      return convert_from(load<uint8_t>(p), out);
    case ValueType::kI8:
      return convert_from(load<int8_t>(p), out);
    case ValueType::kU16:
      return convert_from(load<uint16_t>(p), out);
    case ValueType::kI16:
      return convert_from(load<int16_t>(p), out);
    case ValueType::kU32:
      return convert_from(load<uint32_t>(p), out);
    case ValueType::kI32:
      return convert_from(load<int32_t>(p), out);
    case ValueType::kU64:
      return convert_from(load<uint64_t>(p), out);
    case ValueType::kI64:
      return convert_from(load<int64_t>(p), out);
    case ValueType::kF32:
      return convert_from(load<float>(p), out);
    case ValueType::kF64:
      return convert_from(load<double>(p), out);
    default:
      return false;
  }
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string describe(const MetadataValue& value) {
  if (value.type == ValueType::kArray) {
    return fmt::format("an array of {} {}", value.count, value_type_name(value.element));
  }
  if (double number = 0; convert(value.type, value.bytes.data(), number)) {
    return fmt::format("{} {}", value_type_name(value.type), number);
  }
  return fmt::format("a {}", value_type_name(value.type));
}

template <typename T>
constexpr std::string_view wanted_name() {
  if constexpr (std::is_same_v<T, bool>) return "a bool";
  if constexpr (std::is_same_v<T, int32_t>) return "an integer of 32 bits";
  if constexpr (std::is_same_v<T, uint32_t>) return "a non-negative integer below 2^32";
  if constexpr (std::is_same_v<T, int64_t>) return "an integer of 64 bits";
  if constexpr (std::is_same_v<T, uint64_t>) return "a non-negative integer";
  if constexpr (std::is_floating_point_v<T>) return "a number";
  return "a string";
}

template <typename T>
Result<T> scalar(std::string_view key, const MetadataValue& value) {
  const auto wrong = [&] {
    return fail(Code::kMalformed, "metadata key '{}' is {}, need {}", key, describe(value), wanted_name<T>());
  };
  if constexpr (std::is_same_v<T, bool>) {
    if (value.type != ValueType::kBool) return wrong();
    return value.bytes[0] != std::byte{0};
  } else if constexpr (std::is_arithmetic_v<T>) {
    T number{};
    if (!convert(value.type, value.bytes.data(), number)) return wrong();
    return number;
  } else {
    if (value.type != ValueType::kString) return wrong();
    return T(as_text(value.bytes));
  }
}

template <typename T>
Result<std::vector<T>> array(std::string_view key, const MetadataValue& value) {
  const auto wrong = [&](std::string_view detail) {
    return fail(Code::kMalformed, "metadata key '{}' is {}, need an array, each element {}{}", key, describe(value),
                wanted_name<T>(), detail);
  };
  if (value.type != ValueType::kArray) return wrong("");
  if constexpr (std::is_arithmetic_v<T>) {
    const uint64_t size = value_type_bytes(value.element);
    if (size == 0 || value.element == ValueType::kBool) return wrong("");
    std::vector<T> out(value.count);
    for (size_t i = 0; i < out.size(); ++i) {
      if (!convert(value.element, value.bytes.data() + i * size, out[i])) return wrong(fmt::format(" (see [{}])", i));
    }
    return out;
  } else {
    if (value.element != ValueType::kString) return wrong("");
    return std::vector<T>(value.strings.begin(), value.strings.end());
  }
}

}  // namespace

std::string_view value_type_name(ValueType type) {
  switch (type) {
    case ValueType::kU8:
      return "u8";
    case ValueType::kI8:
      return "i8";
    case ValueType::kU16:
      return "u16";
    case ValueType::kI16:
      return "i16";
    case ValueType::kU32:
      return "u32";
    case ValueType::kI32:
      return "i32";
    case ValueType::kF32:
      return "f32";
    case ValueType::kBool:
      return "bool";
    case ValueType::kString:
      return "string";
    case ValueType::kArray:
      return "array";
    case ValueType::kU64:
      return "u64";
    case ValueType::kI64:
      return "i64";
    case ValueType::kF64:
      return "f64";
  }
  return "unknown";
}

uint64_t value_type_bytes(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    default:
      return 0;
  }
}

Result<Metadata> Metadata::create(std::vector<MetadataEntry> entries) {
  Metadata out;
  out.entries_ = std::move(entries);
  out.by_key_.resize(out.entries_.size());
  std::iota(out.by_key_.begin(), out.by_key_.end(), 0u);
  const auto key_of = [&](uint32_t index) { return out.entries_[index].key; };
  std::ranges::sort(out.by_key_, {}, key_of);
  const auto twice = std::ranges::adjacent_find(out.by_key_, {}, key_of);
  if (twice != out.by_key_.end()) return fail(Code::kMalformed, "metadata key '{}' comes twice", key_of(*twice));
  return out;
}

const MetadataValue* Metadata::find_value(std::string_view key) const {
  const auto key_of = [&](uint32_t index) { return entries_[index].key; };
  const auto found = std::ranges::lower_bound(by_key_, key, {}, key_of);
  return found != by_key_.end() && key_of(*found) == key ? &entries_[*found].value : nullptr;
}

template <typename T>
Result<T> Metadata::require(std::string_view key) const {
  const MetadataValue* value = find_value(key);
  if (value == nullptr) return fail(Code::kNotFound, "metadata key '{}' is missing", key);
  if constexpr (kIsVector<T>) {
    return array<typename T::value_type>(key, *value);
  } else {
    return scalar<T>(key, *value);
  }
}

template <typename T>
Result<T> Metadata::value_or(std::string_view key, T fallback) const {
  if (!contains(key)) return fallback;
  return require<T>(key);
}

template <typename T>
std::optional<T> Metadata::find(std::string_view key) const {
  auto value = require<T>(key);
  if (!value) return std::nullopt;
  return std::move(*value);
}

template <typename T>
Result<std::vector<T>> Metadata::require_each(std::string_view key, size_t count) const {
  const MetadataValue* value = find_value(key);
  if (value == nullptr || value->type != ValueType::kArray) return std::vector<T>(count, TRY(require<T>(key)));
  std::vector<T> out = TRY(array<T>(key, *value));
  if (out.size() != count) {
    return fail(Code::kMalformed, "metadata key '{}' has {} elements, need {}", key, out.size(), count);
  }
  return out;
}

template Result<bool> Metadata::require(std::string_view) const;
template Result<int32_t> Metadata::require(std::string_view) const;
template Result<uint32_t> Metadata::require(std::string_view) const;
template Result<int64_t> Metadata::require(std::string_view) const;
template Result<uint64_t> Metadata::require(std::string_view) const;
template Result<float> Metadata::require(std::string_view) const;
template Result<double> Metadata::require(std::string_view) const;
template Result<std::string_view> Metadata::require(std::string_view) const;
template Result<std::string> Metadata::require(std::string_view) const;
template Result<std::vector<int32_t>> Metadata::require(std::string_view) const;
template Result<std::vector<uint32_t>> Metadata::require(std::string_view) const;
template Result<std::vector<int64_t>> Metadata::require(std::string_view) const;
template Result<std::vector<uint64_t>> Metadata::require(std::string_view) const;
template Result<std::vector<float>> Metadata::require(std::string_view) const;
template Result<std::vector<double>> Metadata::require(std::string_view) const;
template Result<std::vector<std::string_view>> Metadata::require(std::string_view) const;
template Result<std::vector<std::string>> Metadata::require(std::string_view) const;
template Result<bool> Metadata::value_or(std::string_view, bool) const;
template Result<int32_t> Metadata::value_or(std::string_view, int32_t) const;
template Result<uint32_t> Metadata::value_or(std::string_view, uint32_t) const;
template Result<int64_t> Metadata::value_or(std::string_view, int64_t) const;
template Result<uint64_t> Metadata::value_or(std::string_view, uint64_t) const;
template Result<float> Metadata::value_or(std::string_view, float) const;
template Result<double> Metadata::value_or(std::string_view, double) const;
template Result<std::string_view> Metadata::value_or(std::string_view, std::string_view) const;
template Result<std::string> Metadata::value_or(std::string_view, std::string) const;
template Result<std::vector<int32_t>> Metadata::value_or(std::string_view, std::vector<int32_t>) const;
template Result<std::vector<uint32_t>> Metadata::value_or(std::string_view, std::vector<uint32_t>) const;
template Result<std::vector<int64_t>> Metadata::value_or(std::string_view, std::vector<int64_t>) const;
template Result<std::vector<uint64_t>> Metadata::value_or(std::string_view, std::vector<uint64_t>) const;
template Result<std::vector<float>> Metadata::value_or(std::string_view, std::vector<float>) const;
template Result<std::vector<double>> Metadata::value_or(std::string_view, std::vector<double>) const;
template Result<std::vector<std::string_view>> Metadata::value_or(std::string_view,
                                                                  std::vector<std::string_view>) const;
template Result<std::vector<std::string>> Metadata::value_or(std::string_view, std::vector<std::string>) const;
template std::optional<bool> Metadata::find(std::string_view) const;
template std::optional<int32_t> Metadata::find(std::string_view) const;
template std::optional<uint32_t> Metadata::find(std::string_view) const;
template std::optional<int64_t> Metadata::find(std::string_view) const;
template std::optional<uint64_t> Metadata::find(std::string_view) const;
template std::optional<float> Metadata::find(std::string_view) const;
template std::optional<double> Metadata::find(std::string_view) const;
template std::optional<std::string_view> Metadata::find(std::string_view) const;
template std::optional<std::string> Metadata::find(std::string_view) const;
template std::optional<std::vector<int32_t>> Metadata::find(std::string_view) const;
template std::optional<std::vector<uint32_t>> Metadata::find(std::string_view) const;
template std::optional<std::vector<int64_t>> Metadata::find(std::string_view) const;
template std::optional<std::vector<uint64_t>> Metadata::find(std::string_view) const;
template std::optional<std::vector<float>> Metadata::find(std::string_view) const;
template std::optional<std::vector<double>> Metadata::find(std::string_view) const;
template std::optional<std::vector<std::string_view>> Metadata::find(std::string_view) const;
template std::optional<std::vector<std::string>> Metadata::find(std::string_view) const;
template Result<std::vector<int32_t>> Metadata::require_each<int32_t>(std::string_view, size_t) const;
template Result<std::vector<uint32_t>> Metadata::require_each<uint32_t>(std::string_view, size_t) const;
template Result<std::vector<int64_t>> Metadata::require_each<int64_t>(std::string_view, size_t) const;
template Result<std::vector<uint64_t>> Metadata::require_each<uint64_t>(std::string_view, size_t) const;
template Result<std::vector<float>> Metadata::require_each<float>(std::string_view, size_t) const;
template Result<std::vector<double>> Metadata::require_each<double>(std::string_view, size_t) const;
template Result<std::vector<std::string_view>> Metadata::require_each<std::string_view>(std::string_view, size_t) const;
template Result<std::vector<std::string>> Metadata::require_each<std::string>(std::string_view, size_t) const;

}  // namespace hearth
