// Every table of kernels against the scalar one, bit for bit, and the scalar one against double precision.
#include "backend/cpu/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/math8.h"
#include "tensor/float16.h"
#include "tensor/type.h"

namespace hearth::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

// The first difference between two results, in words; empty if there is none.
std::string difference(const std::vector<float>& got, const std::vector<float>& want) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (!same(got[i], want[i]))
      return "element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " + std::to_string(want[i]);
  }
  return {};
}

std::vector<float> random_floats(size_t n, uint32_t seed, float spread = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

// A matrix of one type in panels, each in memory of exactly its size, so that sanitizers see a read beyond it.
struct Matrix {
  const TypeInfo& type;
  int64_t rows, k;
  std::vector<std::byte> panels;

  [[nodiscard]] int64_t n_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

Matrix pack(const TypeInfo& type, int64_t rows, int64_t k, const std::vector<std::byte>& file_rows) {
  Matrix matrix{type, rows, k, {}};
  const int64_t bytes = type.panel.panel_bytes(k);
  const uint64_t stride = *row_bytes(type, static_cast<uint64_t>(k));
  matrix.panels.resize(static_cast<size_t>(matrix.n_panels() * bytes));
  for (int64_t panel = 0; panel < matrix.n_panels(); ++panel) {
    const int count = static_cast<int>(std::min<int64_t>(kPanelRows, rows - panel * kPanelRows));
    pack_panel(type, file_rows.data() + static_cast<uint64_t>(panel * kPanelRows) * stride, stride, count, k,
               matrix.panels.data() + panel * bytes);
  }
  return matrix;
}

Matrix random_matrix(const TypeInfo& type, int64_t rows, int64_t k, uint32_t seed) {
  const uint64_t stride = *row_bytes(type, static_cast<uint64_t>(k));
  std::vector<std::byte> file_rows(static_cast<size_t>(rows) * stride);
  const std::vector<float> values = random_floats(static_cast<size_t>(rows * k), seed);
  for (int64_t row = 0; row < rows; ++row)
    type.encode(values.data() + row * k, file_rows.data() + static_cast<uint64_t>(row) * stride, k);
  return pack(type, rows, k, file_rows);
}

// Panels with every code, scale and minimum byte the same: codes 0xff are the largest unsigned and -1, 0x80 the most
// negative.
Matrix extreme_matrix(const TypeInfo& type, int64_t rows, int64_t k, int scale, int code) {
  Matrix matrix = random_matrix(type, rows, k, 1);
  const PanelFormat& format = type.panel;
  for (int64_t panel = 0; panel < matrix.n_panels(); ++panel) {
    std::byte* at = matrix.panels.data() + panel * format.panel_bytes(k);
    for (int64_t g = 0; g < k / kGroup; ++g, at += format.group_bytes()) {
      if (format.has_super() && g % kSuperGroups == 0) at += format.super_header_bytes();
      if (format.scale != ScaleKind::kF16) std::memset(at, scale, static_cast<size_t>(format.group_scales_bytes()));
      std::memset(at + format.group_scales_bytes(), code, static_cast<size_t>(format.planes_bytes()));
    }
  }
  return matrix;
}

struct Quantized {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int16_t> sums;

  Quantized(int m, int64_t k)
      : codes(static_cast<size_t>(m * k)),
        scales(static_cast<size_t>(m * k / 32)),
        sums(static_cast<size_t>(m * k / 16)) {}
  QuantizedRows rows(int64_t k) { return {codes.data(), scales.data(), sums.data(), k}; }
};

struct Job {
  const Kernels& kernels;
  int64_t panel_begin = 0, panel_end = -1;
  const float* bias = nullptr;
  bool accumulate = false;
};

std::vector<float> multiply(const Job& job, const Matrix& matrix, const std::vector<float>& x, int m) {
  const bool is_float = matrix.type.panel.is_float();
  Quantized quantized(m, is_float ? 0 : matrix.k);
  if (!is_float) job.kernels.quantize_rows(x.data(), matrix.k, m, quantized.rows(matrix.k));
  std::vector<std::byte> scratch(static_cast<size_t>(matmul_scratch_bytes(matrix.k)) + 64);
  const auto misaligned = reinterpret_cast<uintptr_t>(scratch.data()) % 64;
  const int64_t stride = matrix.rows + 3;  // the gap between rows must stay as it is
  std::vector<float> out(static_cast<size_t>(m * stride), 0.5f);
  find_matmul(job.kernels, matrix.type.panel)(matrix.type.panel,
                                              {.panels = matrix.panels.data(),
                                               .panel_stride = matrix.type.panel.panel_bytes(matrix.k),
                                               .rows = matrix.rows,
                                               .k = matrix.k,
                                               .panel_begin = job.panel_begin,
                                               .panel_end = job.panel_end < 0 ? matrix.n_panels() : job.panel_end,
                                               .m = m,
                                               .x = x.data(),
                                               .x_stride = matrix.k,
                                               .xq = quantized.rows(matrix.k),
                                               .out = out.data(),
                                               .out_stride = stride,
                                               .epilogue = {job.bias, job.accumulate},
                                               .scratch = scratch.data() + (64 - misaligned) % 64});
  return out;
}

std::vector<const Kernels*> fast_kernels() {
  std::vector<const Kernels*> out;
  for (const Kernels* each : all_kernels())
    if (each != &kScalar && each->supported()) out.push_back(each);
  return out;
}

std::vector<int64_t> lengths(const TypeInfo& type) {
  if (type.panel.is_float()) return {1, 7, 33, 64};
  if (type.block == 256) return {256, 768};
  return {32, 64, 96, 576, 640};
}

// The product in double precision of what a panel's floats say with the activations as they were quantised.
double reference(const Matrix& matrix, const std::vector<double>& x, int64_t row, int column, double& magnitude) {
  std::vector<float> w(static_cast<size_t>(matrix.k));
  const int64_t bytes = matrix.type.panel.panel_bytes(matrix.k);
  unpack_panel_row(matrix.type.panel, matrix.panels.data() + row / kPanelRows * bytes,
                   static_cast<int>(row % kPanelRows), matrix.k, w.data());
  double sum = 0;
  magnitude = 0;
  for (int64_t i = 0; i < matrix.k; ++i) {
    const double product = w[static_cast<size_t>(i)] * x[static_cast<size_t>(column * matrix.k + i)];
    sum += product;
    magnitude += std::abs(product);
  }
  return sum;
}

TEST(Kernels, ScalarProductsAgreeWithDoublePrecision) {
  for (const TypeInfo& type : all_types()) {
    const int64_t k = lengths(type).back();
    const int64_t rows = 11;
    const int m = 3;
    const Matrix matrix = random_matrix(type, rows, k, 7);
    const std::vector<float> x = random_floats(static_cast<size_t>(m * k), 8);
    std::vector<double> seen(x.begin(), x.end());
    if (!type.panel.is_float()) {
      Quantized quantized(m, k);
      kScalar.quantize_rows(x.data(), k, m, quantized.rows(k));
      for (size_t i = 0; i < seen.size(); ++i) {
        const double value = static_cast<double>(quantized.scales[i / 32]) * quantized.codes[i];
        ASSERT_NEAR(value, seen[i], quantized.scales[i / 32] * 0.501)
            << "the quantised activation is off by more than half a step";
        seen[i] = value;
      }
    }
    const std::vector<float> out = multiply({kScalar}, matrix, x, m);
    for (int column = 0; column < m; ++column) {
      for (int64_t row = 0; row < rows; ++row) {
        double magnitude;
        const double want = reference(matrix, seen, row, column, magnitude);
        ASSERT_NEAR(out[static_cast<size_t>(column * (rows + 3) + row)], want, magnitude * 2e-6) << type.name;
      }
    }
  }
}

TEST(Kernels, EveryTypeAndShapeGivesTheScalarBits) {
  for (const TypeInfo& type : all_types()) {
    for (const int64_t k : lengths(type)) {
      for (const int64_t rows : {1, 8, 17, 29}) {
        const Matrix matrix = random_matrix(type, rows, k, static_cast<uint32_t>(rows));
        const std::vector<float> x = random_floats(static_cast<size_t>(67 * k), static_cast<uint32_t>(k));
        for (const int m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 23, 67}) {
          if (m > 9 && rows != 17) continue;
          const std::vector<float> want = multiply({kScalar}, matrix, x, m);
          for (const Kernels* kernels : fast_kernels()) {
            ASSERT_EQ(difference(multiply({*kernels}, matrix, x, m), want), "")
                << kernels->isa << " " << type.name << " " << rows << " x " << k << ", " << m << " columns";
          }
        }
      }
    }
  }
}

TEST(Kernels, LongRowsAndManyColumnsGiveTheScalarBits) {
  for (const std::string_view name : {"Q4_0", "Q8_0", "Q6_K", "F16"}) {
    const Matrix matrix = random_matrix(*find_type(name), 13, 8960, 3);
    const std::vector<float> x =
        random_floats(8960 * 21, 4);  // more columns than are multiplied at once at this length
    const std::vector<float> want = multiply({kScalar}, matrix, x, 21);
    for (const Kernels* kernels : fast_kernels())
      ASSERT_EQ(difference(multiply({*kernels}, matrix, x, 21), want), "") << kernels->isa << " " << name;
  }
}

TEST(Kernels, AResultDoesNotDependOnTheColumnsBesideIt) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const TypeInfo& type : all_types()) {
      const int64_t k = lengths(type).back(), rows = 21;
      const Matrix matrix = random_matrix(type, rows, k, 5);
      const std::vector<float> x = random_floats(static_cast<size_t>(9 * k), 6);
      const std::vector<float> together = multiply({*kernels}, matrix, x, 9);
      for (int column = 0; column < 9; ++column) {
        const std::vector<float> one(x.begin() + column * k, x.begin() + (column + 1) * k);
        const auto begin = together.begin() + column * (rows + 3);
        ASSERT_EQ(difference(multiply({*kernels}, matrix, one, 1), {begin, begin + rows + 3}), "")
            << kernels->isa << " " << type.name;
      }
    }
  }
}

TEST(Kernels, ExtremeCodesScalesAndActivationsDoNotSaturate) {
  constexpr int64_t k = 256;
  constexpr int m = 5;
  std::vector<float> x(static_cast<size_t>(m * k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = (i / 256 + (i & (i / 512))) % 2 ? -3.0f : 3.0f;
  for (const TypeInfo& type : all_types()) {
    if (type.panel.is_float()) continue;
    for (const int scale : {0x00, 0x7f, 0x80, 0xff}) {
      for (const int code : {0x00, 0x7f, 0x80, 0x88, 0xff}) {
        const Matrix matrix = extreme_matrix(type, 16, k, scale, code);
        const std::vector<float> want = multiply({kScalar}, matrix, x, m);
        for (const Kernels* kernels : fast_kernels()) {
          for (const int columns : {1, m}) {
            const std::vector<float> out = multiply({*kernels}, matrix, x, columns);
            ASSERT_EQ(difference(out, {want.begin(), want.begin() + static_cast<int64_t>(out.size())}), "")
                << kernels->isa << " " << type.name << " scale " << scale << " code " << code;
          }
        }
      }
    }
  }
}

TEST(Kernels, InfinitiesAndNaNsStayVisibleAndAlone) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const TypeInfo& type : all_types()) {
      const int64_t k = 256;
      const Matrix matrix = random_matrix(type, 16, k, 9);
      std::vector<float> x = random_floats(static_cast<size_t>(5 * k), 10);
      x[3] = kNaN;
      x[static_cast<size_t>(2 * k + 255)] = kInf;
      x[static_cast<size_t>(3 * k + 40)] = -kInf;
      for (int64_t i = 0; i < k; ++i) x[static_cast<size_t>(4 * k + i)] = 1e-41f;
      const std::vector<float> out = multiply({*kernels}, matrix, x, 5);
      ASSERT_EQ(difference(out, multiply({kScalar}, matrix, x, 5)), "") << kernels->isa << " " << type.name;
      EXPECT_TRUE(std::isnan(out[0])) << type.name;
      EXPECT_TRUE(std::isfinite(out[19])) << type.name;
      EXPECT_FALSE(std::isfinite(out[38])) << type.name;
    }
  }
}

TEST(Kernels, BiasAccumulationAndRangesOfPanels) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    for (const TypeInfo& type : all_types()) {
      const int64_t k = lengths(type).back(), rows = 45;
      const Matrix matrix = random_matrix(type, rows, k, 11);
      const std::vector<float> x = random_floats(static_cast<size_t>(6 * k), 12), bias = random_floats(rows, 13);
      for (const int m : {1, 6}) {
        for (const bool accumulate : {false, true}) {
          const Job fast{*kernels, 1, 5, bias.data(), accumulate}, slow{kScalar, 1, 5, bias.data(), accumulate};
          const std::vector<float> out = multiply(fast, matrix, x, m);
          ASSERT_EQ(difference(out, multiply(slow, matrix, x, m)), "") << kernels->isa << " " << type.name;
          ASSERT_EQ(out[7], 0.5f) << "a panel outside the range was written";
          ASSERT_EQ(out[40], 0.5f);
        }
      }
    }
  }
}

TEST(Kernels, QuantisedActivationsAreTheSame) {
  std::vector<float> x = random_floats(7 * 128, 14);
  for (size_t i = 0; i < 32; ++i) {
    x[i] = 0.0f;
    x[32 + i] = static_cast<float>(i) - 15.5f;  // halves: rounding to even shows
    x[64 + i] = i == 5 ? -127.0f : static_cast<float>(i) + 0.5f;
    x[128 + i] = std::ldexp(1.0f, -126 - static_cast<int>(i) / 2);
    x[160 + i] = i == 31 ? kNaN : 1.0f;
    x[192 + i] = i == 0 ? -kInf : 1.0f;
    x[224 + i] = i % 2 ? std::numeric_limits<float>::max() : -std::numeric_limits<float>::max();
  }
  Quantized want(7, 128);
  kScalar.quantize_rows(x.data(), 128, 7, want.rows(128));
  EXPECT_EQ(want.codes[64 + 5], -127);
  EXPECT_EQ(want.codes[64 + 2], 2);
  EXPECT_EQ(want.codes[64 + 1], 2);
  EXPECT_TRUE(std::isnan(want.scales[5]));
  for (const Kernels* kernels : fast_kernels()) {
    Quantized got(7, 128);
    kernels->quantize_rows(x.data(), 128, 7, got.rows(128));
    EXPECT_EQ(got.codes, want.codes) << kernels->isa;
    EXPECT_EQ(got.sums, want.sums) << kernels->isa;
    EXPECT_EQ(difference(got.scales, want.scales), "") << kernels->isa;
  }
}

TEST(Kernels, NormsAndGatesGiveTheScalarBits) {
  for (const int64_t n : {1, 5, 8, 9, 31, 64, 100, 576}) {
    std::vector<float> x = random_floats(static_cast<size_t>(n), 15, 5.0f),
                       y = random_floats(static_cast<size_t>(n), 16);
    std::vector<float> want(x.size()), got(x.size());
    kScalar.rms_norm(x.data(), y.data(), n, 1e-6f, want.data());
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * value;
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(want[i], x[i] * y[i] / std::sqrt(squares / static_cast<double>(n) + 1e-6), 1e-5);
    for (const Kernels* kernels : fast_kernels()) {
      got = x;
      kernels->rms_norm(got.data(), y.data(), n, 1e-6f, got.data());
      EXPECT_EQ(difference(got, want), "") << kernels->isa << " " << n;
      for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
        std::vector<float> gate(x.size());
        kScalar.glu(activation, x.data(), y.data(), n, gate.data());
        got = x;
        kernels->glu(activation, got.data(), y.data(), n, got.data());
        EXPECT_EQ(difference(got, gate), "") << kernels->isa << " " << n;
      }
    }
  }
}

TEST(Kernels, GatesOverTheWholeRangeOfFloats) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0xffff0000u; bits += 0xffffu) x.push_back(std::bit_cast<float>(bits));
  for (float value = -100.0f; value < 100.0f; value += 0.0173f) x.push_back(value);
  const std::vector<float> ones(x.size(), 1.0f);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    std::vector<float> want(x.size()), got(x.size());
    kScalar.glu(activation, x.data(), ones.data(), static_cast<int64_t>(x.size()), want.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i];
      if (!(std::abs(v) < 50)) continue;
      const double silu = v / (1 + std::exp(-v));
      const double gelu = 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
      const double exact = activation == Activation::kSilu ? silu : gelu;
      ASSERT_NEAR(want[i], exact, 4e-7 * std::max(1.0, std::abs(v))) << v;
    }
    for (const Kernels* kernels : fast_kernels()) {
      kernels->glu(activation, x.data(), ones.data(), static_cast<int64_t>(x.size()), got.data());
      EXPECT_EQ(difference(got, want), "") << kernels->isa;
    }
  }
}

TEST(Kernels, ConversionsGiveTheScalarBits) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> floats;
  for (uint32_t bits = 0; bits < 0xfff00000u; bits += 0xfffffu / 3) floats.push_back(std::bit_cast<float>(bits));
  std::vector<float> want(halves.size()), got(halves.size());
  std::vector<uint16_t> want16(floats.size()), got16(floats.size());
  kScalar.f16_to_f32(halves.data(), 65536, want.data());
  kScalar.f32_to_f16(floats.data(), static_cast<int64_t>(floats.size()), want16.data());
  std::vector<int8_t> bytes(32 * 11);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<int8_t>(i * 7);
  const std::vector<float> scales = random_floats(32, 17);
  std::vector<float> keys(bytes.size()), values(bytes.size()), out(bytes.size());
  kScalar.i8_keys_to_f32(bytes.data(), scales.data(), 32 * 11, keys.data());
  kScalar.i8_values_to_f32(bytes.data(), scales.data(), 11, 32 * 11, values.data());
  EXPECT_EQ(values[15], static_cast<float>(bytes[15]) * scales[1]);
  for (const Kernels* kernels : fast_kernels()) {
    for (const int64_t n : {65536, 65533}) {
      kernels->f16_to_f32(halves.data(), n, got.data());
      EXPECT_EQ(difference(got, want), "") << kernels->isa;
    }
    kernels->f32_to_f16(floats.data(), static_cast<int64_t>(floats.size()), got16.data());
    for (size_t i = 0; i < floats.size(); ++i)
      if (!std::isnan(floats[i])) {
        ASSERT_EQ(got16[i], want16[i]) << floats[i];
      }
    kernels->i8_keys_to_f32(bytes.data(), scales.data(), 32 * 11, out.data());
    EXPECT_EQ(difference(out, keys), "") << kernels->isa;
    kernels->i8_values_to_f32(bytes.data(), scales.data(), 11, 32 * 11, out.data());
    EXPECT_EQ(difference(out, values), "") << kernels->isa;
  }
}

struct Attention {
  int n, head_dim;
  std::vector<float> q, k, v, m, l, o;
  std::vector<int> begin, end;

  Attention(int queries, int dim, uint32_t seed) : n(queries), head_dim(dim) {
    const auto size = static_cast<size_t>(dim);
    q = random_floats(static_cast<size_t>(n) * (size + 2), seed);
    k = random_floats(kPagePositions * size, seed + 1);
    v = random_floats(kPagePositions * size, seed + 2);
    m.assign(static_cast<size_t>(n), -kInf);
    l.assign(static_cast<size_t>(n), 0.0f);
    o.assign(static_cast<size_t>(n) * (size + 1), 0.0f);
    for (int i = 0; i < n; ++i) {
      begin.push_back(i % 3 == 0 ? 0 : i * 5 % 32);
      end.push_back(i % 4 == 1 ? 32 : 1 + i * 11 % 32);
    }
  }
  void run(const Kernels& kernels, float soft_cap) {
    kernels.attend({.q = q.data(),
                    .q_stride = head_dim + 2,
                    .n = n,
                    .head_dim = head_dim,
                    .k = k.data(),
                    .v = v.data(),
                    .begin = begin.data(),
                    .end = end.data(),
                    .scale = 0.3f,
                    .soft_cap = soft_cap,
                    .m = m.data(),
                    .l = l.data(),
                    .o = o.data(),
                    .o_stride = head_dim + 1});
  }
};

TEST(Kernels, AttentionAgreesWithDoublePrecision) {
  Attention page(1, 24, 20);
  page.begin = {3};
  page.end = {29};
  page.run(kScalar, 0.0f);
  page.k = random_floats(page.k.size(), 21);
  const std::vector<float> first_v = page.v;
  std::vector<double> o(24), p;
  double l = 0;
  Attention again(1, 24, 20);
  for (const int turn : {0, 1}) {
    const std::vector<float>& k = turn ? page.k : again.k;
    for (size_t j = 3; j < 29; ++j) {
      double s = 0;
      for (size_t d = 0; d < 24; ++d) s += static_cast<double>(page.q[d]) * k[d * 32 + j];
      const double weight = std::exp(s * static_cast<double>(0.3f));
      l += weight;
      for (size_t d = 0; d < 24; ++d) o[d] += weight * page.v[j * 24 + d];
    }
  }
  page.run(kScalar, 0.0f);
  for (size_t d = 0; d < 24; ++d) EXPECT_NEAR(page.o[d] / page.l[0], o[d] / l, 1e-5);
}

TEST(Kernels, AttentionGivesTheScalarBits) {
  for (const Kernels* kernels : fast_kernels()) {
    for (const int head_dim : {1, 7, 8, 20, 64, 80, 96, 100, 128, 131, 256}) {
      for (const int n : {1, 2, 3, 4, 5, 9, 16}) {
        for (const float soft_cap : {0.0f, 2.0f}) {
          Attention want(n, head_dim, 30), got(n, head_dim, 30);
          for (const int turn : {0, 1, 2}) {  // several pages: the running state is taken up
            if (turn == 2) want.begin[0] = got.begin[0] = 32;
            want.k = got.k = random_floats(want.k.size(), 31u + static_cast<uint32_t>(turn));
            want.run(kScalar, soft_cap);
            got.run(*kernels, soft_cap);
            ASSERT_EQ(difference(got.m, want.m) + difference(got.l, want.l) + difference(got.o, want.o), "")
                << kernels->isa << " head_dim " << head_dim << ", " << n << " queries, page " << turn;
          }
        }
      }
    }
  }
}

TEST(Kernels, AttentionReadsNothingOutsideItsRangeAndShowsNaN) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    Attention want(3, 40, 40), got(3, 40, 40);
    want.begin = got.begin = {4, 4, 0};
    want.end = got.end = {20, 20, 32};
    for (size_t d = 0; d < 40; ++d) {
      for (size_t j = 20; j < 32; ++j) {
        want.k[d * 32 + j] = got.k[d * 32 + j] = kNaN;
        want.v[j * 40 + d] = got.v[j * 40 + d] = kInf;
      }
    }
    want.run(kScalar, 0.0f);
    got.run(*kernels, 0.0f);
    EXPECT_EQ(difference(got.m, want.m) + difference(got.l, want.l) + difference(got.o, want.o), "") << kernels->isa;
    EXPECT_TRUE(std::isfinite(got.o[39]));
    EXPECT_TRUE(std::isnan(got.l[2]));
  }
}

TEST(Kernels, TablesAreFoundByName) {
  EXPECT_EQ(find_kernels("scalar"), &kScalar);
  EXPECT_EQ(find_kernels("abacus"), nullptr);
  EXPECT_TRUE(best_kernels()->supported());
  EXPECT_EQ(find_kernels(best_kernels()->isa), best_kernels());
  for (const Kernels* kernels : fast_kernels())
    for (const TypeInfo& type : all_types())
      EXPECT_NE(find_matmul(*kernels, type.panel), matmul_scalar) << kernels->isa << " has no loop for " << type.name;
  EXPECT_EQ(find_matmul(kScalar, info(Type::kQ4_0).panel), matmul_scalar);
}

TEST(Kernels, ExpIsAccurateAndFixedAtItsEnds) {
  for (float x = -87.0f; x <= 88.0f; x += 0.00731f)
    ASSERT_NEAR(exp_f32(x) / std::exp(static_cast<double>(x)), 1.0, 2e-7) << x;
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-kInf), 0.0f);
  EXPECT_EQ(exp_f32(kInf), kInf);
  EXPECT_TRUE(std::isnan(exp_f32(kNaN)));
  EXPECT_EQ(tanh_f32(kInf), 1.0f);
  EXPECT_EQ(tanh_f32(-kInf), -1.0f);
}

}  // namespace
}  // namespace hearth::cpu
