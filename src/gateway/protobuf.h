// As much of Protocol Buffers' wire format as Sparkplug needs (protobuf.dev/programming-guides/encoding): fields written one after
// another, and read with every length checked. A library and its generated code would be ten times this.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth::gateway {

class ProtoWriter {
 public:
  void varint(int field, uint64_t value) {
    tag(field, 0);
    raw(value);
  }
  void number(int field, double value) {
    tag(field, 1);
    const auto bits = std::bit_cast<uint64_t>(value);
    for (int i = 0; i < 8; i++) bytes_ += static_cast<char>(bits >> (8 * i));
  }
  void bytes(int field, std::string_view value) {
    tag(field, 2);
    raw(value.size());
    bytes_ += value;
  }
  [[nodiscard]] const std::string& text() const { return bytes_; }

 private:
  void tag(int field, int kind) { raw(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(kind)); }
  void raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

struct ProtoField {
  uint64_t field = 0;
  uint64_t number = 0;     // of a varint, or the bits of a fixed 32 or 64
  std::string_view bytes;  // of anything with a length
};

// Field by field; after the last, or at the first that is broken, there is none.
class ProtoReader {
 public:
  explicit ProtoReader(std::string_view bytes) : rest_(bytes) {}
  std::optional<ProtoField> next() {
    if (rest_.empty()) return std::nullopt;
    const auto tag = raw();
    if (!tag) return broken();
    ProtoField field{*tag >> 3, 0, {}};
    switch (*tag & 7) {
      case 0: {
        const auto value = raw();
        if (!value) return broken();
        field.number = *value;
        return field;
      }
      case 1:
        return fixed(field, 8);
      case 5:
        return fixed(field, 4);
      case 2: {
        const auto size = raw();
        if (!size || *size > rest_.size()) return broken();
        field.bytes = rest_.substr(0, *size);
        rest_.remove_prefix(*size);
        return field;
      }
      default:
        return broken();
    }
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::optional<ProtoField> broken() {
    ok_ = false;
    rest_ = {};
    return std::nullopt;
  }
  std::optional<ProtoField> fixed(ProtoField field, size_t size) {
    if (rest_.size() < size) return broken();
    for (size_t i = 0; i < size; i++) field.number |= uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
    rest_.remove_prefix(size);
    return field;
  }
  std::optional<uint64_t> raw() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace hearth::gateway
