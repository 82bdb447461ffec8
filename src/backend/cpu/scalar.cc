// The reference: every loop as its definition in kernels.h reads, for any machine. The other files are tested against
// this one.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

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
      out.d[row] = f16_at(header, row);
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

void decode_codes(const PanelFormat& format, const std::byte* planes, Group& out) {
  for (int row = 0; row < kPanelRows; ++row) {
    for (int i = 0; i < kGroup; ++i) {
      const int code = raw_code(format.bits, planes, i / 4, 4 * row + i % 4);
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

void add_group(const PanelFormat& format, const Group& group, const QuantizedRows& xq, int64_t column, int64_t g,
               float* acc) {
  int16_t x[kGroup];
  const int8_t* codes = xq.codes + column * xq.k + g * kGroup;
  for (int i = 0; i < kGroup; ++i) x[i] = codes[i];
  const float dx = xq.scales[column * (xq.k / kGroup) + g];
  const int16_t* sums = xq.sums + column * (xq.k / 16) + 2 * g;
  for (int row = 0; row < kPanelRows; ++row) {
    int isum = 0;
    int msum = 0;
    for (int block = 0; block < format.blocks_per_group(); ++block) {
      isum += group.scales[block][row] *
              dot(group.codes[row] + block * format.block, x + block * format.block, format.block);
      msum += group.mins[block][row] * (format.block == 16 ? sums[block] : sums[0] + sums[1]);
    }
    acc[row] = std::fma(static_cast<float>(isum), group.d[row] * dx, acc[row]);
    if (format.has_min) acc[row] = std::fma(static_cast<float>(msum), group.m[row] * dx, acc[row]);
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
  float acc[kColumns][kPanelRows] = {};
  const std::byte* at = args.panels + panel * args.panel_stride;
  const std::byte* header = nullptr;
  for (int64_t g = 0; g < args.k / kGroup; ++g, at += format.group_bytes()) {
    if (format.has_super() && g % kSuperGroups == 0) {
      header = at;
      at += format.super_header_bytes();
    }
    Group group;
    decode_scales(format, header, at, group);
    decode_codes(format, at + format.group_scales_bytes(), group);
    for (int c = 0; c < columns; ++c) add_group(format, group, args.xq, begin + c, g, acc[c]);
  }
  for (int c = 0; c < columns; ++c) finish(args, panel, begin + c, acc[c]);
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
  const int64_t groups = out.k / kGroup;
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      int8_t* codes = out.codes + r * out.k + g * kGroup;
      out.scales[r * groups + g] = quantize_group(x + r * x_stride + g * kGroup, codes);
      for (int half = 0; half < 2; ++half) {
        int sum = 0;
        for (int i = 0; i < 16; ++i) sum += codes[16 * half + i];
        out.sums[(r * groups + g) * 2 + half] = static_cast<int16_t>(sum);
      }
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

void scores(const AttendArgs& args, int query, float* s) {
  const float* q = args.q + query * args.q_stride;
  for (int j = 0; j < kPagePositions; ++j) s[j] = 0.0f;
  for (int64_t d = 0; d < args.head_dim; ++d)
    for (int j = 0; j < kPagePositions; ++j) s[j] = std::fma(q[d], args.k[d * kPagePositions + j], s[j]);
  for (int j = 0; j < kPagePositions; ++j) {
    s[j] *= args.scale;
    if (args.soft_cap != 0.0f) s[j] = args.soft_cap * tanh_f32(s[j] / args.soft_cap);
  }
}

void attend_one(const AttendArgs& args, int query) {
  const int begin = args.begin[query], end = args.end[query];
  if (begin >= end) return;
  float p[kPagePositions];
  scores(args, query, p);
  float m = args.m[query];
  for (int j = begin; j < end; ++j) m = p[j] > m ? p[j] : m;
  m += 0.0f;  // of the two zeros the positive one
  for (int j = 0; j < kPagePositions; ++j) p[j] = j >= begin && j < end ? exp_f32(p[j] - m) : 0.0f;
  const float c = exp_f32(args.m[query] - m);
  float lanes[8];
  for (int t = 0; t < 8; ++t) lanes[t] = (p[t] + p[t + 8]) + (p[t + 16] + p[t + 24]);
  args.l[query] = std::fma(args.l[query], c, sum8(lanes));
  args.m[query] = m;
  float* o = args.o + query * args.o_stride;
  for (int d = 0; d < args.head_dim; ++d) {
    float sum = o[d] * c;
    for (int64_t j = begin; j < end; ++j) sum = std::fma(p[j], args.v[j * args.head_dim + d], sum);
    o[d] = sum;
  }
}

void attend(const AttendArgs& args) {
  for (int query = 0; query < args.n; ++query) attend_one(args, query);
}

void halves_to_floats(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = f16_to_f32(in[i]);
}

void floats_to_halves(const float* in, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = f32_to_f16(in[i]);
}

void i8_keys_to_f32(const int8_t* in, const float* scale, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * scale[i % kPagePositions];
}

void i8_values_to_f32(const int8_t* in, const float* scale, int64_t row, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]) * scale[i / row];
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
    .matmul = nullptr,
    .quantize_rows = quantize_rows,
    .rms_norm = rms_norm,
    .glu = glu,
    .attend = attend,
    .f16_to_f32 = halves_to_floats,
    .f32_to_f16 = floats_to_halves,
    .i8_keys_to_f32 = i8_keys_to_f32,
    .i8_values_to_f32 = i8_values_to_f32,
};

}  // namespace hearth::cpu
