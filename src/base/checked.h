// Integers that come from outside. Every size, count and offset read from a file or a packet goes through these.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>

namespace hearth {

// An unsigned 64-bit value that remembers whether any step that made it overflowed or went below zero.
// Arithmetic never wraps; value() is empty once anything went wrong. Cost: one flag per step.
class Checked {
 public:
  constexpr Checked() = default;
  template <std::integral T>
  // Implicit: the conversion is the point.
  constexpr Checked(T value) : value_(static_cast<uint64_t>(value)), ok_(value >= T{0}) {}

  friend constexpr Checked operator+(Checked a, Checked b) {
    Checked r;
    r.ok_ = !__builtin_add_overflow(a.value_, b.value_, &r.value_) && a.ok_ && b.ok_;
    return r;
  }
  friend constexpr Checked operator-(Checked a, Checked b) {
    Checked r;
    r.ok_ = !__builtin_sub_overflow(a.value_, b.value_, &r.value_) && a.ok_ && b.ok_;
    return r;
  }
  friend constexpr Checked operator*(Checked a, Checked b) {
    Checked r;
    r.ok_ = !__builtin_mul_overflow(a.value_, b.value_, &r.value_) && a.ok_ && b.ok_;
    return r;
  }
  // Division by zero is an error like any other.
  friend constexpr Checked operator/(Checked a, Checked b) {
    Checked r;
    r.ok_ = a.ok_ && b.ok_ && b.value_ != 0;
    if (r.ok_) r.value_ = a.value_ / b.value_;
    return r;
  }
  // Rounded up to a multiple of a power of two.
  [[nodiscard]] constexpr Checked aligned(uint64_t alignment) const {
    Checked r = *this + Checked(alignment - 1);
    r.value_ &= ~(alignment - 1);
    r.ok_ = r.ok_ && alignment != 0 && (alignment & (alignment - 1)) == 0;
    return r;
  }
  [[nodiscard]] constexpr bool ok() const { return ok_; }
  [[nodiscard]] constexpr std::optional<uint64_t> value() const { return ok_ ? std::optional(value_) : std::nullopt; }
  // True if the value is known and at most `limit`.
  [[nodiscard]] constexpr bool at_most(uint64_t limit) const { return ok_ && value_ <= limit; }
  [[nodiscard]] constexpr uint64_t value_or(uint64_t other) const { return ok_ ? value_ : other; }

 private:
  uint64_t value_ = 0;
  bool ok_ = true;
};

}  // namespace hearth
