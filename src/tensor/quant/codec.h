// decode, split, encode and packing into panels of a block format, written once. A format is a struct with
//   kBlock, kBlockBytes, kPanel            its sizes and its PanelFormat
//   unpack(const uint8_t* block, Parts)    block -> codes and scales; loading a model waits for it
//   pack(Parts, uint8_t* block)            the reverse
//   choose(const float* x, Parts)          kBlock floats -> codes and scales
// Types of our own have kSuperBytes before every started 256 elements too (own.h); those, or the rest of a row, are what
// is taken apart at once.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "tensor/element.h"
#include "tensor/planes.h"
#include "tensor/type.h"

namespace hearth::quant {

inline constexpr int kSuperBlock = kGroup * kSuperGroups;

// One block taken apart, as in RowCodes; pointers into the caller's arrays. Unused parts (mins, d, dmin) may be null.
struct Parts {
  uint8_t* codes;
  uint16_t* scales;
  uint16_t* mins;
  uint16_t* d;
  uint16_t* dmin;
  int n;  // elements
};

struct PartsBuffer {
  std::array<uint8_t, kSuperBlock> codes{};
  std::array<uint16_t, 16> scales{}, mins{};
  uint16_t d = 0, dmin = 0;
  Parts parts(int n) { return {codes.data(), scales.data(), mins.data(), &d, &dmin, n}; }
};

template <typename Format>
constexpr bool kOwn = requires { Format::kSuperBytes; };
template <typename Format>
constexpr int kPiece = kOwn<Format> ? kSuperBlock : Format::kBlock;
// Elements of the piece that begins at `at`: a constant, but for types of our own.
template <typename Format>
constexpr int piece_at(int64_t at, int64_t n) {
  if constexpr (kOwn<Format>) return static_cast<int>(std::min<int64_t>(kPiece<Format>, n - at));
  return Format::kBlock;
}
template <typename Format>
constexpr int64_t piece_bytes(int n) {
  if constexpr (kOwn<Format>) return Format::kSuperBytes + n / Format::kBlock * Format::kBlockBytes;
  return Format::kBlockBytes;
}

inline uint16_t load_u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
inline void store_u16(uint8_t* p, uint16_t value) {
  p[0] = static_cast<uint8_t>(value);
  p[1] = static_cast<uint8_t>(value >> 8);
}
inline const uint8_t* bytes(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }
inline uint8_t* bytes(std::byte* p) { return reinterpret_cast<uint8_t*>(p); }

// x rounded half away from zero into [lo, hi]; not-a-number gives lo.
inline int round_code(float x, int lo, int hi) {
  if (!(x > static_cast<float>(lo))) return lo;
  return x >= static_cast<float>(hi) ? hi : static_cast<int>(std::lround(x));
}
// The same by truncation, as the legacy formats do after adding a half.
inline int truncate_code(float x, int lo, int hi) {
  if (!(x > static_cast<float>(lo))) return lo;
  return x >= static_cast<float>(hi) ? hi : static_cast<int>(x);
}
inline float inverse(float x) { return x == 0 ? 0 : 1 / x; }

// Codes are taken apart eight at a time, each a byte of a little-endian word. `in` and `codes` never overlap; saying so
// lets compilers use vectors.
inline uint64_t load_eight(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}
inline void store_eight(uint8_t* p, uint64_t word) { std::memcpy(p, &word, 8); }
constexpr uint64_t eight(uint8_t byte) { return byte * 0x0101010101010101u; }

// 2n codes of 4 bits: element j in the low nibble of byte j, element j + n in the high one. n is 16, in k-quants 32.
template <int n>
inline void unpack_nibbles(const uint8_t* __restrict in, uint8_t* __restrict codes) {
  for (int j = 0; j < n; j += 8) {
    const uint64_t word = load_eight(in + j);
    store_eight(codes + j, word & eight(15));
    store_eight(codes + j + n, (word >> 4) & eight(15));
  }
}
template <int n>
inline void pack_nibbles(const uint8_t* codes, uint8_t* out) {
  for (int j = 0; j < n; ++j) out[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + n] & 15) << 4);
}

// The fifth bits of 32 codes, one bit each in order.
inline void unpack_fifth_bits(const uint8_t* __restrict in, uint8_t* __restrict codes) {
  for (int j = 0; j < 4; ++j) {
    const uint64_t spread = eight(in[j]) & 0x8040201008040201u;           // byte i keeps bit i
    const uint64_t bits = ((spread + eight(0x7f)) >> 3) & eight(1 << 4);  // 16 where it was set; no byte overflows
    store_eight(codes + 8 * j, load_eight(codes + 8 * j) | bits);
  }
}
inline void pack_fifth_bits(const uint8_t* codes, uint8_t* out) {
  std::memset(out, 0, 4);
  for (int j = 0; j < 32; ++j) out[j / 8] |= static_cast<uint8_t>(((codes[j] >> 4) & 1) << (j % 8));
}

// The bits `shift` and on of 256 codes (k-quants), where bit j of byte l belongs to element l + 32 * j.
inline void unpack_bit_rows(const uint8_t* __restrict in, int shift, uint8_t* __restrict codes) {
  for (int j = 0; j < 8; ++j) {
    for (int l = 0; l < 32; l += 8) {
      const uint64_t bits = ((load_eight(in + l) >> j) & eight(1)) << shift;
      store_eight(codes + 32 * j + l, load_eight(codes + 32 * j + l) | bits);
    }
  }
}

// 256 codes of 2 bits (k-quants): in each half of 128, element l + 32 * j at bits 2 * j of byte l.
inline void unpack_two_bits(const uint8_t* __restrict in, uint8_t* __restrict codes) {
  for (int j = 0; j < 8; ++j) {
    for (int l = 0; l < 32; l += 8) {
      store_eight(codes + 32 * j + l, (load_eight(in + 32 * (j / 4) + l) >> (2 * (j % 4))) & eight(3));
    }
  }
}
inline void pack_two_bits(const uint8_t* codes, uint8_t* out) {
  std::memset(out, 0, 64);
  for (int i = 0; i < kSuperBlock; ++i) {
    out[32 * (i / 128) + i % 32] |= static_cast<uint8_t>((codes[i] & 3) << (2 * (i / 32 % 4)));
  }
}

// 8 scales and 8 minimums of 6 bits in 12 bytes (Q4_K, Q5_K): the first four of each whole in bytes 0-7, whose two
// upper bits are the upper bits of the last four; their low nibbles share bytes 8-11.
inline void unpack_six_bits(const uint8_t* in, uint16_t* scales, uint16_t* mins) {
  for (int b = 0; b < 4; ++b) {
    scales[b] = in[b] & 63;
    mins[b] = in[b + 4] & 63;
    scales[b + 4] = static_cast<uint16_t>((in[b + 8] & 15) | (in[b] >> 6) << 4);
    mins[b + 4] = static_cast<uint16_t>((in[b + 8] >> 4) | (in[b + 4] >> 6) << 4);
  }
}
inline void pack_six_bits(const uint16_t* scales, const uint16_t* mins, uint8_t* out) {
  for (int b = 0; b < 4; ++b) {
    out[b] = static_cast<uint8_t>(scales[b] | (scales[b + 4] >> 4) << 6);
    out[b + 4] = static_cast<uint8_t>(mins[b] | (mins[b + 4] >> 4) << 6);
    out[b + 8] = static_cast<uint8_t>((scales[b + 4] & 15) | (mins[b + 4] & 15) << 4);
  }
}

template <typename Format>
void decode(const std::byte* blocks, float* out, int64_t n) {
  constexpr PanelFormat kPanel = Format::kPanel;
  PartsBuffer buffer;
  for (int64_t i = 0; i < n; i += kPiece<Format>) {
    const int count = piece_at<Format>(i, n);
    Format::unpack(bytes(blocks), buffer.parts(count));
    blocks += piece_bytes<Format>(count);
    for (int block = 0; block < count / kPanel.block; ++block) {
      const float scale = element_scale(kPanel, buffer.scales[block], buffer.d);
      const float min = element_min(kPanel, buffer.mins[block], buffer.dmin);
      for (int j = block * kPanel.block; j < (block + 1) * kPanel.block; ++j) {
        out[i + j] = element_value(kPanel, element_integer(kPanel, buffer.codes[j]), scale, min);
      }
    }
  }
}

template <typename Format>
void split(const std::byte* blocks, int64_t n, RowCodes& out) {
  constexpr PanelFormat kPanel = Format::kPanel;
  const auto size = static_cast<size_t>(n), supers = (size + kSuperBlock - 1) / kSuperBlock;
  out.codes.resize(size);
  out.scales.resize(size / kPanel.block);
  out.mins.resize(kPanel.has_min ? size / kPanel.block : 0);
  out.d.resize(kPanel.has_super() ? supers : 0);
  out.dmin.resize(kPanel.has_super() && kPanel.has_min ? supers : 0);
  for (int64_t i = 0; i < n; i += kPiece<Format>) {
    const int count = piece_at<Format>(i, n);
    const int64_t block = i / kPanel.block, super = i / kSuperBlock;
    Format::unpack(bytes(blocks),
                   {out.codes.data() + i, out.scales.data() + block, out.mins.data() + (kPanel.has_min ? block : 0),
                    out.d.data() + (kPanel.has_super() ? super : 0),
                    out.dmin.data() + (kPanel.has_super() && kPanel.has_min ? super : 0), count});
    blocks += piece_bytes<Format>(count);
  }
}

template <typename Format>
void join(const RowCodes& row, int64_t n, std::byte* blocks) {
  constexpr PanelFormat kPanel = Format::kPanel;
  PartsBuffer buffer;
  for (int64_t i = 0; i < n; i += kPiece<Format>) {
    const int count = piece_at<Format>(i, n), scales = count / kPanel.block;
    const int64_t block = i / kPanel.block;
    const auto super = static_cast<size_t>(i / kSuperBlock);
    std::copy_n(row.codes.begin() + i, count, buffer.codes.begin());
    std::copy_n(row.scales.begin() + block, scales, buffer.scales.begin());
    if constexpr (kPanel.has_min) std::copy_n(row.mins.begin() + block, scales, buffer.mins.begin());
    if constexpr (kPanel.has_super()) buffer.d = row.d[super];
    if constexpr (kPanel.has_super() && kPanel.has_min) buffer.dmin = row.dmin[super];
    Format::pack(buffer.parts(count), bytes(blocks));
    blocks += piece_bytes<Format>(count);
  }
}

// One row's block into its lane of a piece of a panel (the header, where the format has one, and the block's groups).
template <typename Format>
inline void write_lane(const PartsBuffer& block, int groups, int lane, uint8_t* piece) {
  constexpr PanelFormat kPanel = Format::kPanel;
  constexpr int kBlocks = kPanel.blocks_per_group(), kSize = kPanel.scale_bytes();
  constexpr auto store = kSize == 2 ? store_u16 : +[](uint8_t* p, uint16_t value) { *p = static_cast<uint8_t>(value); };
  if constexpr (kPanel.has_super()) {
    store_u16(piece + 2 * lane, block.d);
    if constexpr (kPanel.has_min) store_u16(piece + 2 * (kPanelRows + lane), block.dmin);
    piece += kPanel.super_header_bytes();
  }
  for (int group = 0; group < groups; ++group, piece += kPanel.group_bytes()) {
    for (int b = 0; b < kBlocks; ++b) {
      uint8_t* scale = piece + (b * kPanelRows + lane) * kSize;
      store(scale, block.scales[group * kBlocks + b]);
      if constexpr (kPanel.has_min) store(scale + kBlocks * kPanelRows * kSize, block.mins[group * kBlocks + b]);
    }
    Words words;
    std::memcpy(words.data(), block.codes.data() + group * kGroup, kGroup);
    pack_planes<kPanel.bits, kPanel.has_low ? 4 : 0>(words, piece + kPanel.group_scales_bytes() + 4 * lane);
  }
}
inline void write_low_lane(const PartsBuffer& block, int groups, int lane, uint8_t* piece) {
  for (int group = 0; group < groups; ++group) {
    Words words;
    std::memcpy(words.data(), block.codes.data() + group * kGroup, kGroup);
    pack_planes<4>(words, piece + group * plane_bytes(4) + 4 * lane);
  }
}

// A block of every row, then the next: the panel is written from its start to its end.
template <typename Format, Plane plane>
void pack_rows(const std::byte* first_row, uint64_t row_stride, int rows, int64_t k, std::byte* panel) {
  constexpr PanelFormat kPanel = Format::kPanel;
  PartsBuffer block;
  for (int64_t i = 0; i < k; i += kPiece<Format>) {
    const int count = piece_at<Format>(i, k), groups = count / kGroup;
    for (int lane = 0; lane < rows; ++lane) {
      Format::unpack(bytes(first_row) + static_cast<uint64_t>(lane) * row_stride, block.parts(count));
      if constexpr (plane == Plane::kLow)
        write_low_lane(block, groups, lane, bytes(panel));
      else
        write_lane<Format>(block, groups, lane, bytes(panel));
    }
    first_row += piece_bytes<Format>(count);
    panel +=
        plane == Plane::kLow ? groups * plane_bytes(4) : kPanel.super_header_bytes() + groups * kPanel.group_bytes();
  }
}

template <typename Format>
void encode(const float* in, std::byte* blocks, int64_t n) {
  PartsBuffer buffer;
  for (int64_t i = 0; i < n; i += kPiece<Format>) {
    const int count = piece_at<Format>(i, n);
    Format::choose(in + i, buffer.parts(count));
    Format::pack(buffer.parts(count), bytes(blocks));
    blocks += piece_bytes<Format>(count);
  }
}

template <typename Format>
constexpr int super_bytes() {
  if constexpr (kOwn<Format>) return Format::kSuperBytes;
  return 0;
}

template <typename Format>
constexpr TypeInfo::PackRows low_rows() {
  if constexpr (Format::kPanel.has_low) return pack_rows<Format, Plane::kLow>;
  return nullptr;
}

template <typename Format>
constexpr ScaleRange scale_range() {
  if constexpr (Format::kPanel.has_super()) return Format::kScales;
  return {};
}

template <typename Format>
constexpr TypeInfo make_type(Type type, std::string_view name) {
  return {.type = type,
          .name = name,
          .block = Format::kBlock,
          .block_bytes = Format::kBlockBytes,
          .super_bytes = super_bytes<Format>(),
          .decode = decode<Format>,
          .encode = encode<Format>,
          .panel = Format::kPanel,
          .split = split<Format>,
          .join = join<Format>,
          .scales = scale_range<Format>(),
          .pack_rows = pack_rows<Format, Plane::kHigh>,
          .pack_low_rows = low_rows<Format>()};
}

template <auto decode, auto encode>
constexpr TypeInfo make_float(Type type, std::string_view name, PanelFormat panel) {
  return {.type = type,
          .name = name,
          .block = 1,
          .block_bytes = panel.bits / 8,
          .super_bytes = 0,
          .decode = decode,
          .encode = encode,
          .panel = panel,
          .split = nullptr,
          .join = nullptr,
          .scales = {},
          .pack_rows = nullptr,
          .pack_low_rows = nullptr};
}

}  // namespace hearth::quant
