// Element types of tensors as they lie in files (GGUF's ids and names, and types of our own), and the registry of their
// codecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "tensor/panel.h"

namespace hearth {

// The numbers below kFirstOwnType are GGUF's (ggml_type). The others are of our own: they lie in packs, never in GGUF
// files. Only the types listed in the registry can be read.
inline constexpr uint32_t kFirstOwnType = 1000;
enum class Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
  kI4 = kFirstOwnType,
  kI4S,
  kI4H,
  kI5,
  kI6,
  kI8,
};
constexpr bool is_own(Type type) { return static_cast<uint32_t>(type) >= kFirstOwnType; }

// The integers that the scales of a format with super scales may be; its minimums are of [0, hi].
struct ScaleRange {
  int lo = 0, hi = 0;
};

// One type's codec. Rows are encoded independently; a row's length is a multiple of block. Those of one row are decoded
// and encoded together: what lies before every started 256 elements lies there once a row.
// All functions are pure, may run on any thread and expect sizes that were checked by the caller.
struct TypeInfo {
  Type type;
  std::string_view name;  // "Q4_K", as the field writes it
  int block;              // elements per block
  int block_bytes;        // bytes per block in the file
  int super_bytes;        // before every started 256 elements of a row, in types of our own
  // blocks (n / block of them) -> n floats
  void (*decode)(const std::byte* blocks, float* out, int64_t n);
  // n floats -> blocks; the plain round-to-nearest encoder of the format (quality work is compress/'s)
  void (*encode)(const float* in, std::byte* blocks, int64_t n);
  // How 8 rows lie together for the kernels (panel.h). Float types have panel.bits 16 or 32 and no scales.
  PanelFormat panel;
  // One row of blocks -> its codes and scales, the form every quantised type has in common. Null for float types.
  // Exact: for each element, panel_value() of what it returns equals decode()'s float.
  void (*split)(const std::byte* blocks, int64_t n, RowCodes& out);
  // The reverse of split(): codes and scales chosen elsewhere -> n / block blocks. Null for float types.
  void (*join)(const RowCodes& row, int64_t n, std::byte* blocks);
  ScaleRange scales;
  // pack_panel() without its checks and its padding. Null for float types; pack_low_rows for all but nested ones.
  using PackRows = void (*)(const std::byte* first_row, uint64_t row_stride, int rows, int64_t k, std::byte* panel);
  PackRows pack_rows, pack_low_rows;
};

// The registry: one entry per file of tensor/quant/, in the order of the ids.
std::span<const TypeInfo> all_types();
// Null if the id is not one of ours. Cost: a search in a short array.
const TypeInfo* find_type(uint32_t id);
const TypeInfo* find_type(std::string_view name);  // any case
const TypeInfo& info(Type type);

// Bytes of a row of n elements; empty if n is not a multiple of the block or the size overflows.
std::optional<uint64_t> row_bytes(const TypeInfo& type, uint64_t n);

}  // namespace hearth
