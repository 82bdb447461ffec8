// Every table of kernels against the scalar one, bit for bit, and the scalar one against double precision.
#include "backend/cpu/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>
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
  std::vector<std::byte> panels, low{};

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
  matrix.low.resize(static_cast<size_t>(matrix.n_panels() * type.panel.low_bytes(k)));
  if (type.panel.has_low) pack_panels(type, file_rows, rows, k, 0, matrix.n_panels(), matrix.low.data(), Plane::kLow);
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
  std::ranges::fill(matrix.low, static_cast<std::byte>(code));
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
  std::vector<float> scales, scaled_sums;
  std::vector<int16_t> sums;
  int64_t m;

  Quantized(int n_rows, int64_t k)
      : codes(static_cast<size_t>(n_rows * k)),
        scales(codes.size() / 32),
        scaled_sums(scales.size()),
        sums(codes.size() / 16),
        m(n_rows) {}
  QuantizedRows rows(int64_t k) { return {codes.data(), scales.data(), scaled_sums.data(), sums.data(), k, m}; }
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
                                               .low = matrix.low.data(),
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
  if (type.panel.is_float()) return {1, 7, 33, 64, 576};
  if (type.block == 256) return {256, 512, 2048, 768};
  return {32, 64, 96, 288, 640, 896, 2048, 576};
}

// The product in double precision of what a panel's floats say with the activations as they were quantised.
double reference(const Matrix& matrix, const std::vector<double>& x, int64_t row, int column, double& magnitude) {
  std::vector<float> w(static_cast<size_t>(matrix.k));
  const PanelFormat& format = matrix.type.panel;
  const int64_t panel = row / kPanelRows;
  unpack_panel_row(format, matrix.panels.data() + panel * format.panel_bytes(matrix.k),
                   matrix.low.data() + panel * format.low_bytes(matrix.k), static_cast<int>(row % kPanelRows), matrix.k,
                   w.data());
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
        const auto row = static_cast<int64_t>(i) / k, g = static_cast<int64_t>(i) % k / 32;
        const float scale = quantized.scales[static_cast<size_t>(g * m + row)];
        const double value = static_cast<double>(scale) * quantized.codes[i];
        ASSERT_NEAR(value, seen[i], scale * 0.501) << "the quantised activation is off by more than half a step";
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

// Every instruction set against the scalar result of the most columns; fewer columns are its first rows.
void expect_scalar_bits(const Matrix& matrix, const std::vector<float>& x, std::initializer_list<int> columns) {
  const std::vector<float> want = multiply({kScalar}, matrix, x, std::ranges::max(columns));
  for (const Kernels* kernels : fast_kernels()) {
    for (const int m : columns) {
      const std::vector<float> got = multiply({*kernels}, matrix, x, m);
      ASSERT_EQ(difference(got, {want.begin(), want.begin() + static_cast<int64_t>(got.size())}), "")
          << kernels->isa << " " << matrix.type.name << " " << matrix.rows << " x " << matrix.k << ", " << m
          << " columns";
    }
  }
}

TEST(Kernels, EveryTypeAndShapeGivesTheScalarBits) {
  for (const TypeInfo& type : all_types()) {
    for (const int64_t k : lengths(type)) {
      const std::vector<float> x = random_floats(static_cast<size_t>(512 * k), static_cast<uint32_t>(k));
      for (const int64_t rows : {1, 8, 17, 29}) {
        const Matrix matrix = random_matrix(type, rows, k, static_cast<uint32_t>(rows));
        if (rows == 17 && k == lengths(type).back())
          expect_scalar_bits(matrix, x, {10, 23, 67, 512});
        else
          expect_scalar_bits(matrix, x, {1, 2, 3, 4, 5, 6, 7, 8, 9});
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(Kernels, LongRowsAndManyColumnsGiveTheScalarBits) {
  for (const std::string_view name : {"Q4_0", "Q8_0", "Q6_K", "F16", "I4", "I8"}) {
    const TypeInfo& type = *find_type(name);
    const int64_t k = type.block == 256 ? 8960 : 8992;
    const Matrix matrix = random_matrix(type, 37, k, 3);
    // More columns than are multiplied at once at this length.
    const std::vector<float> x = random_floats(static_cast<size_t>(k) * 21, 4);
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
  constexpr int64_t k = 768;
  constexpr int m = 9;
  // Columns of +127, of -127, and of both by bits of the index: pairs, neighbours, blocks.
  std::vector<float> x(static_cast<size_t>(m * k));
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t column = i / k, within = i % k;
    const bool negative = column < 2 ? column == 1 : (within >> (column - 2)) % 2 == 1;
    x[i] = negative ? -3.0f : 3.0f;
  }
  for (const TypeInfo& type : all_types()) {
    if (type.panel.is_float()) continue;
    for (const int scale : {0x00, 0x7f, 0x80, 0xff}) {
      for (const int code : {0x00, 0x7f, 0x80, 0x88, 0xff}) {
        const Matrix matrix = extreme_matrix(type, 16, k, scale, code);
        expect_scalar_bits(matrix, x, {1, 4, m});
        if (testing::Test::HasFatalFailure()) FAIL() << "scale " << scale << " code " << code;
      }
    }
  }
}

// Scales that real files hardly have: the smallest, the largest, infinite and none. Products of small scales with small
// activations are subnormal.
TEST(Kernels, StrangeScalesGiveTheScalarBits) {
  constexpr int64_t k = 512;
  for (const TypeInfo& type : all_types()) {
    const PanelFormat& format = type.panel;
    if (format.is_float()) continue;
    for (const int half : {0x0001, 0x83ff, 0x0400, 0x7bff, 0x7c00, 0x7e01}) {
      Matrix matrix = random_matrix(type, 16, k, 1);
      for (int64_t g = 0; g < matrix.n_panels() * k / kGroup; ++g) {
        const int64_t panel = g / (k / kGroup), group = g % (k / kGroup);
        std::byte* at = matrix.panels.data() + panel * format.panel_bytes(k) + group * format.group_bytes();
        if (format.has_super()) at += group / kSuperGroups * format.super_header_bytes();
        const bool is_half = format.scale == ScaleKind::kF16;
        if (!is_half && !(format.has_super() && group % kSuperGroups == 0)) continue;
        const int bytes = is_half ? format.group_scales_bytes() : format.super_header_bytes();
        for (int i = 0; i < bytes; i += 2) {
          const auto bits = static_cast<uint16_t>(half);
          std::memcpy(at + i, &bits, sizeof bits);
        }
      }
      for (const float size : {1.0f, 0x1p-100f, 0x1p-117f}) {
        expect_scalar_bits(matrix, random_floats(9 * k, 2, size), {1, 3, 9});
        if (testing::Test::HasFatalFailure()) FAIL() << "scale " << half << " activations " << size;
      }
    }
  }
}

TEST(Kernels, InfinitiesAndNaNsStayVisibleAndAlone) {
  constexpr int64_t k = 256;
  for (const TypeInfo& type : all_types()) {
    const Matrix matrix = random_matrix(type, 16, k, 9);
    std::vector<float> x = random_floats(static_cast<size_t>(9 * k), 10);
    x[3] = kNaN;
    x[static_cast<size_t>(2 * k + 255)] = kInf;
    x[static_cast<size_t>(3 * k + 40)] = -kInf;
    for (int64_t i = 0; i < k; ++i) x[static_cast<size_t>(4 * k + i)] = 1e-41f;
    x[static_cast<size_t>(8 * k)] = kInf;
    expect_scalar_bits(matrix, x, {1, 2, 3, 4, 5, 6, 7, 8, 9});
    const std::vector<float> out = multiply({kScalar}, matrix, x, 5);
    EXPECT_TRUE(std::isnan(out[0])) << type.name;
    EXPECT_TRUE(std::isfinite(out[19])) << type.name;
    EXPECT_FALSE(std::isfinite(out[38])) << type.name;
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
  EXPECT_TRUE(std::isnan(want.scales[7 + 1]));  // row 1, its second group: scales lie [k / 32][m]

  for (const Kernels* kernels : fast_kernels()) {
    Quantized got(7, 128);
    kernels->quantize_rows(x.data(), 128, 7, got.rows(128));
    EXPECT_EQ(got.codes, want.codes) << kernels->isa;
    EXPECT_EQ(got.sums, want.sums) << kernels->isa;
    EXPECT_EQ(difference(got.scales, want.scales), "") << kernels->isa;
    EXPECT_EQ(difference(got.scaled_sums, want.scaled_sums), "") << kernels->isa;
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
  std::vector<float> floats;
  for (uint32_t bits = 0; bits < 0xfff00000u; bits += 0xfffffu / 3) floats.push_back(std::bit_cast<float>(bits));
  std::vector<uint16_t> want(floats.size()), got(floats.size());
  kScalar.f32_to_f16(floats.data(), static_cast<int64_t>(floats.size()), want.data());
  for (const Kernels* kernels : fast_kernels()) {
    kernels->f32_to_f16(floats.data(), static_cast<int64_t>(floats.size()), got.data());
    for (size_t i = 0; i < floats.size(); ++i)
      if (!std::isnan(floats[i])) {
        ASSERT_EQ(got[i], want[i]) << kernels->isa << " " << floats[i];
      }
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
