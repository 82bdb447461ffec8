// Products of a matrix in panels with m columns: matmul/ISA/TYPE/mM/FROM. From memory the matrix streams past as in
// decoding; from the cache it stays in the second level, which shows what the loop itself can do.
#include <array>
#include <cstring>
#include <memory>

#include "kernel_bench.h"
#include "machine_limits.h"
#include "tensor/type.h"

namespace hearth::bench {
namespace {

using namespace cpu;

constexpr int64_t kLength = 2048;  // of a row: many models' d_model, and whole blocks of every type
constexpr int64_t kCachedBytes = 192 << 10, kMemoryBytes = 96 << 20;

// A matrix of `bytes` at least, one real panel repeated.
struct Matrix {
  std::vector<std::byte> panels, low;
  int64_t n_panels;

  Matrix(const TypeInfo& type, int64_t bytes) {
    const uint64_t stride = *row_bytes(type, static_cast<uint64_t>(kLength));
    std::vector<std::byte> rows(kPanelRows * stride);
    const std::vector<float> values = random_floats(kPanelRows * kLength, 1);
    for (size_t row = 0; row < kPanelRows; ++row)
      type.encode(values.data() + row * kLength, rows.data() + row * stride, kLength);
    const auto panel = static_cast<size_t>(type.panel.panel_bytes(kLength));
    const auto low_panel = static_cast<size_t>(type.panel.low_bytes(kLength));
    n_panels = std::max<int64_t>(1, bytes / static_cast<int64_t>(panel + low_panel));
    auto repeat = [&](std::vector<std::byte>& all, size_t one, Plane plane) {
      all.resize(static_cast<size_t>(n_panels) * one);
      pack_panel(type, rows.data(), stride, kPanelRows, kLength, all.data(), plane);
      for (size_t i = 1; i < static_cast<size_t>(n_panels); ++i) std::memcpy(all.data() + i * one, all.data(), one);
    };
    repeat(panels, panel, Plane::kHigh);
    if (type.panel.has_low) repeat(low, low_panel, Plane::kLow);
  }
};

void matmul(benchmark::State& state, const Kernels& kernels, const TypeInfo& type, int m, bool cached) {
  const Matrix matrix(type, cached ? kCachedBytes : kMemoryBytes);
  const int64_t rows = matrix.n_panels * kPanelRows;
  const std::vector<float> x = random_floats(m * kLength, 2);
  std::vector<float> out(static_cast<size_t>(m * rows));
  std::vector<std::byte> quantized(static_cast<size_t>(m * QuantizedRows::bytes_per_row(kLength)));
  const QuantizedRows xq = QuantizedRows::in(quantized.data(), m, kLength);
  kernels.quantize_rows(x.data(), kLength, m, xq);
  std::vector<std::byte> scratch(static_cast<size_t>(matmul_scratch_bytes(kLength)) + 64);
  void* aligned = scratch.data();
  size_t space = scratch.size();
  std::align(64, scratch.size() - 64, aligned, space);
  const MatmulArgs args{.panels = matrix.panels.data(),
                        .panel_stride = type.panel.panel_bytes(kLength),
                        .low = matrix.low.data(),
                        .rows = rows,
                        .k = kLength,
                        .panel_begin = 0,
                        .panel_end = matrix.n_panels,
                        .m = m,
                        .x = x.data(),
                        .x_stride = kLength,
                        .xq = xq,
                        .out = out.data(),
                        .out_stride = rows,
                        .epilogue = {},
                        .scratch = static_cast<std::byte*>(aligned)};
  const MatmulFn function = find_matmul(kernels, type.panel);
  const Limits& most = limits(1);
  const Work work{.operations = 2.0 * static_cast<double>(rows * kLength * m),
                  .read_bytes = static_cast<double>(matrix.panels.size() + matrix.low.size()),
                  .peak_gop_s = type.panel.is_float() ? most.fp32_gflop_s : most.int8_gop_s(),
                  .limit_gb_s = cached ? most.read_cached_gb_s : most.read_gb_s};
  measure(state, work, [&] { function(type.panel, args); });
}

}  // namespace

void add_matmul(const Kernels& kernels) {
  for (const TypeInfo& type : all_types()) {
    for (const int m : {1, 2, 4, 8, 64}) {
      for (const bool cached : {true, false}) {
        const std::string name = "matmul/" + std::string(kernels.isa) + "/" + std::string(type.name) + "/m" +
                                 std::to_string(m) + (cached ? "/cache" : "/memory");
        add(name, [=, &kernels, &type](benchmark::State& state) { matmul(state, kernels, type, m, cached); });
      }
    }
  }
}

}  // namespace hearth::bench
