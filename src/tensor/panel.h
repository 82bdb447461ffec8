// The layout kernels read: panels of 8 output rows along K, codes in bit planes (design: "planes").
//
// A panel holds 8 rows of a matrix. Along K it is cut into groups of 32 elements; one group of a quantised panel is
//   [scales of the group][minimums of the group][planes]
// and formats with a scale over scales put a header [d: 8 x f16][dmin: 8 x f16 if has_min] before every 8 groups (the
// last may cover fewer). Element (row r, k) of a group: step j = k / 4, byte 4 * r + k % 4 of a 32-byte vector; so the 8
// int32 lanes of one vector are the 8 rows, and one step multiplies 4 codes of each row with the same 4 activations.
// Planes, for 8 steps (32 vectors' bytes):
//   4-bit plane, 128 bytes: vector v (0..3) holds step v in the low nibbles and step v + 4 in the high nibbles
//   2-bit plane,  64 bytes: vector v (0..1) holds steps v, v + 2, v + 4, v + 6 in bits 0-1, 2-3, 4-5, 6-7
//   1-bit plane,  32 bytes: bit j of its one vector belongs to step j
//   8-bit codes, 256 bytes: vector j is step j
// 2 = one 2-bit plane; 3 = 2-bit (low) then 1-bit (high); 4 = 4-bit; 5 = 4-bit then 1-bit; 6 = 4-bit then 2-bit (high);
// 8 bits = bytes. Float panels (bits 16 or 32): element (r, k) at index 8 * k + r. A last panel of fewer than 8 rows is
// padded with zeros.
// A nested format (has_low) has two codes of 4 bits. The high ones lie as those of the 4-bit format high(). After all of
// these panels of a matrix (a slice, if it has several), at the next multiple of kPanelAlignment, the low ones lie in
// panels of their own, which are 4-bit planes and nothing else: they are never read at 4 bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hearth {

// Any change of what follows changes this number: files of packs with another one are laid out anew.
inline constexpr uint32_t kPanelLayoutVersion = 1;

inline constexpr int kPanelRows = 8;
inline constexpr int kGroup = 32;           // elements of K per group, and per activation block
inline constexpr int kSuperGroups = 8;      // groups under one header of a format with super scales
inline constexpr int kPanelAlignment = 64;  // bytes; where the first panel of a matrix begins

enum class ScaleKind : uint8_t {
  kNone,     // float types
  kF16,      // one f16 per row and block
  kSuperU8,  // unsigned 8-bit scales (and minimums) per row and block under an f16 per row and 256
  kSuperI8,  // signed 8-bit scales likewise
  kE8M0,     // one exponent byte per row and block: 2^(e - 128), as MXFP4 with codes doubled to integers
};

// Value of an element = scale * (code - zero) + min, or scale * table[code] for non-linear formats; scale and min are
// per row and block. min = minus (dmin * minimum) for super scales (k-quants subtract), or the stored f16 for kF16.
struct PanelFormat {
  int bits = 32;        // 2, 3, 4, 5, 6, 8 for codes; 16 and 32 for floats
  bool bfloat = false;  // bits = 16: bfloat16 instead of IEEE half
  int block = 32;       // elements per scale: 16 or 32
  ScaleKind scale = ScaleKind::kNone;
  bool has_min = false;
  int zero = 0;            // subtracted from the code; 8-bit codes are signed bytes with zero = 0
  bool has_table = false;  // 4-bit codes index `table`
  std::array<int8_t, 16> table{};
  // Nested: a code is high << 4 | low, its integer 8 * high + low - 68 under a quarter of the scale. Under the
  // whole scale that is what the high code means, 2 * high - 15 (the table), and (low - 8) / 4.
  bool has_low = false;

  [[nodiscard]] constexpr bool is_float() const { return bits >= 16; }
  // What is left of a nested format without the low codes.
  [[nodiscard]] constexpr PanelFormat high() const {
    PanelFormat format = *this;
    format.has_low = false;
    return format;
  }
  [[nodiscard]] constexpr int code_bits() const { return has_low ? 8 : bits; }
  [[nodiscard]] constexpr bool has_super() const {
    return scale == ScaleKind::kSuperU8 || scale == ScaleKind::kSuperI8;
  }
  [[nodiscard]] constexpr int blocks_per_group() const { return kGroup / block; }
  [[nodiscard]] constexpr int scale_bytes() const { return scale == ScaleKind::kF16 ? 2 : 1; }
  // Scales, then minimums, of one group: [block][row]
  [[nodiscard]] constexpr int group_scales_bytes() const {
    return blocks_per_group() * kPanelRows * scale_bytes() * (has_min ? 2 : 1);
  }
  [[nodiscard]] constexpr int planes_bytes() const { return bits * kPanelRows * kGroup / 8; }
  [[nodiscard]] constexpr int group_bytes() const { return group_scales_bytes() + planes_bytes(); }
  [[nodiscard]] constexpr int super_header_bytes() const {
    return has_super() ? 2 * kPanelRows * (has_min ? 2 : 1) : 0;
  }
  // Bytes of one panel of row length k, a multiple of 32 for quantised formats; of a nested one the high panel's.
  [[nodiscard]] constexpr int64_t panel_bytes(int64_t k) const {
    if (is_float()) return k * kPanelRows * bits / 8;
    const int64_t groups = k / kGroup;
    return groups * group_bytes() + (groups + kSuperGroups - 1) / kSuperGroups * super_header_bytes();
  }
  // Bytes of one low panel.
  [[nodiscard]] constexpr int64_t low_bytes(int64_t k) const { return has_low ? k * kPanelRows / 2 : 0; }
  // Where the low panels begin in a matrix of so many panels, and where it ends.
  [[nodiscard]] constexpr int64_t low_offset(int64_t n_panels, int64_t k) const {
    const int64_t high_bytes = n_panels * panel_bytes(k);
    return has_low ? (high_bytes + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment : high_bytes;
  }
  [[nodiscard]] constexpr int64_t matrix_bytes(int64_t n_panels, int64_t k) const {
    return low_offset(n_panels, k) + n_panels * low_bytes(k);
  }
  constexpr bool operator==(const PanelFormat&) const = default;
};

// The integers of 4-bit codes 2h - 15: symmetric, without a zero; a low code moves each by up to a step, 2, either way.
inline constexpr std::array<int8_t, 16> kOddTable = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};

// One row of a quantised tensor in the form all formats share. Sizes for a row of n elements:
struct RowCodes {
  std::vector<uint8_t> codes;    // n; for 8-bit formats the two's complement byte, for nested ones high << 4 | low
  std::vector<uint16_t> scales;  // n / block: f16 bits (kF16), or the 8-bit integer (two's complement) otherwise
  std::vector<uint16_t>
      mins;                 // likewise, empty without has_min; for super scales the unsigned integer that is subtracted
  std::vector<uint16_t> d;  // super scales only: f16 bits, one for every started 256 elements
  std::vector<uint16_t> dmin;  // super scales with has_min only: likewise
};

struct TypeInfo;

// Which panels of a nested format; the others have only kHigh.
enum class Plane : uint8_t { kHigh, kLow };

// Packs `rows` (1..8) consecutive file rows of k elements, row_stride bytes apart, into one panel of panel_bytes(k), or
// low_bytes(k). Exact.
void pack_panel(const TypeInfo& type, const std::byte* first_row, uint64_t row_stride, int rows, int64_t k,
                std::byte* panel, Plane plane = Plane::kHigh);
// Panels [begin, end) of a matrix of `rows` rows of k elements as they lie in `data`, one after the other to `out`.
void pack_panels(const TypeInfo& type, std::span<const std::byte> data, int64_t rows, int64_t k, int64_t begin,
                 int64_t end, std::byte* out, Plane plane = Plane::kHigh);
// The floats of row `lane` of a panel, for nested formats with the low panel that belongs to it; equal to decode() of the
// file's row.
void unpack_panel_row(const PanelFormat& format, const std::byte* panel, const std::byte* low, int lane, int64_t k,
                      float* out);
// The value of element i of a split row.
float panel_value(const PanelFormat& format, const RowCodes& row, int64_t i);

}  // namespace hearth
