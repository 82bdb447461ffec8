// The reference: every loop as its definition in kernels.h reads, for any machine. The other files are tested against
// this one.
#include "backend/cpu/scalar.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/formats.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/math8.h"
#include "tensor/float16.h"

namespace hearth::cpu {
namespace {

// Columns whose sums are kept at once, so that a group's codes are decoded once for all of them.
constexpr int kColumns = 64;

int byte_at(const std::byte* data, int64_t index) { return std::to_integer<int>(data[index]); }

float f16_at(const std::byte* data, int64_t index) {
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, sizeof bits);
  return f16_to_f32(bits);
}

// 2^(e - 128), exact: the two smallest are subnormal.
float e8m0(int e) { return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23); }

// One bit plane of 1, 2 or 4 bits (tensor/panel.h): the part of step j's code in byte b of the vectors.
int plane_code(const std::byte* plane, int bits, int j, int b) {
  const int vectors = bits;  // a plane of n bits packs 8 steps into n vectors
  return (byte_at(plane, 32 * (j % vectors) + b) >> (bits * (j / vectors))) & ((1 << bits) - 1);
}

int raw_code(int bits, const std::byte* planes, int j, int b) {
  switch (bits) {
    case 2:
      return plane_code(planes, 2, j, b);
    case 3:
      return plane_code(planes, 2, j, b) | plane_code(planes + 64, 1, j, b) << 2;
    case 4:
      return plane_code(planes, 4, j, b);
    case 5:
      return plane_code(planes, 4, j, b) | plane_code(planes + 128, 1, j, b) << 4;
    case 6:
      return plane_code(planes, 4, j, b) | plane_code(planes + 128, 2, j, b) << 4;
    default:
      return static_cast<int8_t>(byte_at(planes, 32 * j + b));
  }
}

// One group of one panel, decoded.
struct Group {
  int16_t codes[kPanelRows][kGroup];  // code - zero, or table[code]
  int scales[2][kPanelRows];          // super scales and minimums per block
  int mins[2][kPanelRows];
  float d[kPanelRows];  // factor of the integer sum
  float m[kPanelRows];  // factor of the sum of activations
};

void decode_scales(const PanelFormat& format, const std::byte* header, const std::byte* group, Group& out) {
  const int per_kind = format.blocks_per_group() * kPanelRows;
  for (int row = 0; row < kPanelRows; ++row) {
    if (format.has_super()) {
      out.d[row] = f16_at(header, row) * (format.has_low ? 0.25f : 1.0f);
      out.m[row] = format.has_min ? -f16_at(header, kPanelRows + row) : 0.0f;
      for (int block = 0; block < format.blocks_per_group(); ++block) {
        const int scale = byte_at(group, block * kPanelRows + row);
        out.scales[block][row] = format.scale == ScaleKind::kSuperI8 ? static_cast<int8_t>(scale) : scale;
        out.mins[block][row] = format.has_min ? byte_at(group, per_kind + block * kPanelRows + row) : 0;
      }
    } else {
      out.d[row] = format.scale == ScaleKind::kE8M0 ? e8m0(byte_at(group, row)) : f16_at(group, row);
      out.m[row] = format.has_min ? f16_at(group, per_kind + row) : 0.0f;
      out.scales[0][row] = out.mins[0][row] = 1;
    }
  }
}

void decode_codes(const PanelFormat& format, const std::byte* planes, const std::byte* low, Group& out) {
  for (int row = 0; row < kPanelRows; ++row) {
    for (int i = 0; i < kGroup; ++i) {
      const int code = raw_code(format.bits, planes, i / 4, 4 * row + i % 4);
      if (format.has_low) {
        const int fine = plane_code(low, 4, i / 4, 4 * row + i % 4);
        out.codes[row][i] = static_cast<int16_t>(8 * code + fine - formats::kNestedZero);
        continue;
      }
      out.codes[row][i] =
          static_cast<int16_t>(format.has_table ? format.table[static_cast<size_t>(code)] : code - format.zero);
    }
  }
}

int dot(const int16_t* codes, const int16_t* x, int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += codes[i] * x[i];
  return sum;
}

// The integer sum of a group: codes times activations, blocks scaled.
int group_sum(const PanelFormat& format, const Group& group, int row, const int16_t* x) {
  int sum = 0;
  for (int block = 0; block < format.blocks_per_group(); ++block)
    sum +=
        group.scales[block][row] * dot(group.codes[row] + block * format.block, x + block * format.block, format.block);
  return sum;
}

// Sums of one panel and column under way.
struct Sums {
  float acc[kPanelRows] = {};
  float s[kPanelRows] = {};  // of the 256 elements under one header
  float t[kPanelRows] = {};
};

void add_group(const PanelFormat& format, const Group& group, const QuantizedRows& column, int64_t g, Sums& sums) {
  const bool ends = g % kSuperGroups == kSuperGroups - 1 || g == column.k / kGroup - 1;  // what the header is for
  int16_t x[kGroup];
  for (int i = 0; i < kGroup; ++i) x[i] = column.codes[g * kGroup + i];
  const float dx = column.scales[g * column.m];
  for (int row = 0; row < kPanelRows; ++row) {
    const auto isum = static_cast<float>(group_sum(format, group, row, x));
    if (!format.has_super()) {
      sums.acc[row] = std::fma(isum, group.d[row] * dx, sums.acc[row]);
      if (format.has_min) sums.acc[row] = std::fma(group.m[row], column.scaled_sums[g * column.m], sums.acc[row]);
      continue;
    }
    sums.s[row] = std::fma(isum, dx, sums.s[row]);
    for (int block = 0; format.has_min && block < format.blocks_per_group(); ++block) {
      const float x_b = format.block == kGroup ? column.scaled_sums[g * column.m]
                                               : static_cast<float>(column.sums[2 * g * column.m + block]) * dx;
      sums.t[row] = std::fma(static_cast<float>(group.mins[block][row]), x_b, sums.t[row]);
    }
    if (!ends) continue;
    sums.acc[row] = std::fma(sums.s[row], group.d[row], sums.acc[row]);
    if (format.has_min) sums.acc[row] = std::fma(sums.t[row], group.m[row], sums.acc[row]);
    sums.s[row] = sums.t[row] = 0.0f;
  }
}

void finish(const MatmulArgs& args, int64_t panel, int64_t column, const float* acc) {
  for (int row = 0; row < kPanelRows && panel * kPanelRows + row < args.rows; ++row) {
    const int64_t index = panel * kPanelRows + row;
    float* out = args.out + column * args.out_stride + index;
    const float value = args.epilogue.bias ? acc[row] + args.epilogue.bias[index] : acc[row];
    *out = args.epilogue.accumulate ? *out + value : value;
  }
}

void quantized_panel(const PanelFormat& format, const MatmulArgs& args, int64_t panel, int64_t begin, int columns) {
  Sums sums[kColumns];
  const std::byte* at = args.panels + panel * args.panel_stride;
  const std::byte *header = nullptr, *low = args.low;
  if (format.has_low) low += panel * format.low_bytes(args.k);
  for (int64_t g = 0; g < args.k / kGroup; ++g, at += format.group_bytes()) {
    if (format.has_super() && g % kSuperGroups == 0) {
      header = at;
      at += format.super_header_bytes();
    }
    Group group;
    decode_scales(format, header, at, group);
    decode_codes(format, at + format.group_scales_bytes(), low, group);
    if (format.has_low) low += format.low_bytes(kGroup);
    for (int c = 0; c < columns; ++c) add_group(format, group, args.xq.from_row(begin + c), g, sums[c]);
  }
  for (int c = 0; c < columns; ++c) finish(args, panel, begin + c, sums[c].acc);
}

float float_weight(const PanelFormat& format, const std::byte* panel, int64_t index) {
  if (format.bits == 32) {
    float value;
    std::memcpy(&value, panel + 4 * index, sizeof value);
    return value;
  }
  if (!format.bfloat) return f16_at(panel, index);
  uint16_t bits;
  std::memcpy(&bits, panel + 2 * index, sizeof bits);
  return bf16_to_f32(bits);
}

void float_panel(const PanelFormat& format, const MatmulArgs& args, int64_t panel, int64_t begin, int columns) {
  float acc[kColumns][kPanelRows] = {};
  const std::byte* at = args.panels + panel * args.panel_stride;
  for (int64_t i = 0; i < args.k; ++i) {
    float w[kPanelRows];
    for (int row = 0; row < kPanelRows; ++row) w[row] = float_weight(format, at, kPanelRows * i + row);
    for (int c = 0; c < columns; ++c) {
      const float x = args.x[(begin + c) * args.x_stride + i];
      for (int row = 0; row < kPanelRows; ++row) acc[c][row] = std::fma(w[row], x, acc[c][row]);
    }
  }
  for (int c = 0; c < columns; ++c) finish(args, panel, begin + c, acc[c]);
}

float quantize_group(const float* x, int8_t* codes) {
  uint32_t largest = 0;
  for (int i = 0; i < kGroup; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  const float amax = std::bit_cast<float>(largest);
  const bool finite = largest < 0x7f800000u;
  if (!finite || amax < kQuantizeMin) {
    std::memset(codes, 0, kGroup);
    return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float inverse = 127.0f / amax;
  for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return amax / 127.0f;
}

void quantize_rows(const float* x, int64_t x_stride, int m, const QuantizedRows& out) {
  for (int64_t r = 0; r < m; ++r) {
    const QuantizedRows row = out.from_row(r);
    for (int64_t g = 0; g < out.k / kGroup; ++g) {
      int8_t* codes = row.codes + g * kGroup;
      const float scale = quantize_group(x + r * x_stride + g * kGroup, codes);
      int sums[2] = {};
      for (int i = 0; i < kGroup; ++i) sums[i / 16] += codes[i];
      for (int half = 0; half < 2; ++half) row.sums[2 * g * out.m + half] = static_cast<int16_t>(sums[half]);
      row.scales[g * out.m] = scale;
      row.scaled_sums[g * out.m] = static_cast<float>(sums[0] + sums[1]) * scale;
    }
  }
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  float lanes[8] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % 8] = std::fma(x[i], x[i], lanes[i % 8]);
  const float r = 1.0f / std::sqrt(sum8(lanes) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * r * weight[i];
}

void glu(Activation activation, const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = (activation == Activation::kSilu ? silu_f32(gate[i]) : gelu_tanh_f32(gate[i])) * up[i];
}

void floats_to_halves(const float* in, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = f32_to_f16(in[i]);
}

bool always() { return true; }

}  // namespace

void matmul_scalar(const PanelFormat& format, const MatmulArgs& args) {
  for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
    for (int begin = 0; begin < args.m; begin += kColumns) {
      const int columns = std::min(kColumns, args.m - begin);
      if (format.is_float()) {
        float_panel(format, args, panel, begin, columns);
      } else {
        quantized_panel(format, args, panel, begin, columns);
      }
    }
  }
}

constinit const Kernels kScalar = {
    .isa = "scalar",
    .supported = always,
    .below = nullptr,
    .matmul = nullptr,
    .quantize_rows = quantize_rows,
    .rms_norm = rms_norm,
    .glu = glu,
    .attend = scalar::attend,
    .merge = scalar::merge,
    .f32_to_f16 = floats_to_halves,
    .quantize_i8 = scalar::quantize_i8,
    .quantize_i4 = scalar::quantize_i4,
    .hadamard = scalar::hadamard,
};

}  // namespace hearth::cpu
