// The typed keys and values of a GGUF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

// GGUF's value types with its numbers.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
// "u32", "string", ...; "unknown" for numbers that are no type.
std::string_view value_type_name(ValueType type);
// Bytes of one scalar; 0 for strings, arrays and unknown types.
uint64_t value_type_bytes(ValueType type);

// One value as it lies in the file. Views into the file's mapping, which must outlive it.
struct MetadataValue {
  ValueType type = ValueType::kU8;
  ValueType element = ValueType::kU8;     // of an array
  uint64_t count = 1;                     // elements of an array
  std::span<const std::byte> bytes;       // the scalar, the scalars of an array, or the text of a string; little endian
  std::vector<std::string_view> strings;  // elements of an array of strings
};

struct MetadataEntry {
  std::string_view key;
  MetadataValue value;
};

// Read-only after creation; any thread.
class Metadata {
 public:
  Metadata() = default;
  // kMalformed if a key comes twice.
  static Result<Metadata> create(std::vector<MetadataEntry> entries);

  // In the order of the file.
  [[nodiscard]] std::span<const MetadataEntry> entries() const { return entries_; }
  // Null if there is no such key. Cost: a binary search.
  [[nodiscard]] const MetadataValue* find_value(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find_value(key) != nullptr; }

  // The value of a key as T: bool, int32_t, uint32_t, int64_t, uint64_t, float, double, std::string_view, std::string
  // or a std::vector of one of them (not of bool). Integers of any width are taken if the value fits; float and double
  // also take integers. kNotFound if it is missing, kMalformed with the type found if it is something else or out of
  // range.
  template <typename T>
  [[nodiscard]] Result<T> require(std::string_view key) const;
  // The same, with a default only for a missing key.
  template <typename T>
  [[nodiscard]] Result<T> value_or(std::string_view key, T fallback) const;
  // Empty if the key is missing or something else: for hints whose loss does no harm.
  template <typename T>
  [[nodiscard]] std::optional<T> find(std::string_view key) const;
  // What models give per layer, as one number for all layers or an array of exactly `count`.
  template <typename T>
  [[nodiscard]] Result<std::vector<T>> require_each(std::string_view key, size_t count) const;

 private:
  std::vector<MetadataEntry> entries_;
  std::vector<uint32_t> by_key_;  // indices of entries_, keys ascending
};

}  // namespace hearth
