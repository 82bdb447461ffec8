// Each kernel on one thread: operations and bytes per second, and their share of the machine's limit.
// Names are loop/instruction set/type/columns; --benchmark_filter=matmul/avx2/Q4_0 picks.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "machine_limits.h"
#include "tensor/type.h"

namespace hearth::cpu {
namespace {

using bench::limits;

std::vector<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

// A matrix of `bytes` at least, one real panel repeated: decoding streams it from memory, as in a model.
struct Matrix {
  std::vector<std::byte> panels;
  int64_t n_panels;

  Matrix(const TypeInfo& type, int64_t k, int64_t bytes) {
    const uint64_t stride = *row_bytes(type, static_cast<uint64_t>(k));
    std::vector<std::byte> rows(kPanelRows * stride);
    const std::vector<float> values = random_floats(kPanelRows * k, 1);
    for (size_t row = 0; row < kPanelRows; ++row)
      type.encode(values.data() + row * static_cast<size_t>(k), rows.data() + row * stride, k);
    const auto panel = static_cast<size_t>(type.panel.panel_bytes(k));
    n_panels = bytes / static_cast<int64_t>(panel);
    panels.resize(static_cast<size_t>(n_panels) * panel);
    pack_panel(type, rows.data(), stride, kPanelRows, k, panels.data());
    for (size_t i = 1; i < static_cast<size_t>(n_panels); ++i)
      std::memcpy(panels.data() + i * panel, panels.data(), panel);
  }
};

void matmul(benchmark::State& state, const Kernels& kernels, const TypeInfo& type, int64_t k, int m) {
  const Matrix matrix(type, k, m <= 8 ? 96 << 20 : 512 << 10);
  const int64_t rows = matrix.n_panels * kPanelRows;
  const std::vector<float> x = random_floats(m * k, 2);
  std::vector<int8_t> codes(x.size());
  std::vector<float> scales(x.size() / kGroup), out(static_cast<size_t>(m * rows));
  std::vector<int16_t> sums(x.size() / 16);
  const QuantizedRows xq{codes.data(), scales.data(), sums.data(), k};
  kernels.quantize_rows(x.data(), k, m, xq);
  std::vector<std::byte> scratch(static_cast<size_t>(matmul_scratch_bytes(k)) + 64);
  const MatmulArgs args{.panels = matrix.panels.data(),
                        .panel_stride = type.panel.panel_bytes(k),
                        .rows = rows,
                        .k = k,
                        .panel_begin = 0,
                        .panel_end = matrix.n_panels,
                        .m = m,
                        .x = x.data(),
                        .x_stride = k,
                        .xq = xq,
                        .out = out.data(),
                        .out_stride = rows,
                        .epilogue = {},
                        .scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64};
  const MatmulFn function = find_matmul(kernels, type.panel);
  for (auto _ : state) function(type.panel, args);
  const auto times = static_cast<double>(state.iterations());
  const double operations = 2e-9 * static_cast<double>(rows * k * m) * times,
               gb = 1e-9 * static_cast<double>(matrix.panels.size()) * times;
  state.counters["Gop/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(gb, benchmark::Counter::kIsRate);
  state.counters["of_read"] = benchmark::Counter(gb / limits().read_gb_s, benchmark::Counter::kIsRate);
  if (limits().int8_gop_s > 0)
    state.counters["of_int8"] = benchmark::Counter(operations / limits().int8_gop_s, benchmark::Counter::kIsRate);
}

void attend(benchmark::State& state, const Kernels& kernels, int head_dim, int n) {
  const std::vector<float> q = random_floats(n * head_dim, 1), k = random_floats(kPagePositions * head_dim, 2),
                           v = random_floats(kPagePositions * head_dim, 3);
  const auto size = static_cast<size_t>(n);
  std::vector<float> m(size, 0.0f), l(size, 1.0f), o(size * static_cast<size_t>(head_dim));
  const std::vector<int> begin(size, 0), end(size, kPagePositions);
  for (auto _ : state)
    kernels.attend({.q = q.data(),
                    .q_stride = head_dim,
                    .n = n,
                    .head_dim = head_dim,
                    .k = k.data(),
                    .v = v.data(),
                    .begin = begin.data(),
                    .end = end.data(),
                    .scale = 0.1f,
                    .soft_cap = 0.0f,
                    .m = m.data(),
                    .l = l.data(),
                    .o = o.data(),
                    .o_stride = head_dim});
  state.counters["Gop/s"] = benchmark::Counter(
      4e-9 * n * head_dim * kPagePositions * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void rows(benchmark::State& state, const Kernels& kernels, std::string_view what) {
  constexpr int64_t kSize = 2048;
  const std::vector<float> x = random_floats(kSize, 1), y = random_floats(kSize, 2);
  std::vector<float> out(kSize), scales(kSize / kGroup);
  std::vector<int8_t> codes(kSize);
  std::vector<int16_t> sums(kSize / 16);
  std::vector<uint16_t> halves(kSize);
  for (auto _ : state) {
    if (what == "quantize")
      kernels.quantize_rows(x.data(), kSize, 1, {codes.data(), scales.data(), sums.data(), kSize});
    if (what == "rms_norm") kernels.rms_norm(x.data(), y.data(), kSize, 1e-6f, out.data());
    if (what == "silu") kernels.glu(Activation::kSilu, x.data(), y.data(), kSize, out.data());
    if (what == "gelu") kernels.glu(Activation::kGeluTanh, x.data(), y.data(), kSize, out.data());
    if (what == "f32_to_f16") kernels.f32_to_f16(x.data(), kSize, halves.data());
    if (what == "f16_to_f32") kernels.f16_to_f32(halves.data(), kSize, out.data());
    benchmark::ClobberMemory();
  }
  state.counters["Gelements/s"] =
      benchmark::Counter(1e-9 * kSize * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void register_all() {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported()) continue;
    const std::string isa(kernels->isa);
    for (const TypeInfo& type : all_types())
      for (const int m : {1, 2, 4, 8, 128})
        benchmark::RegisterBenchmark(("matmul/" + isa + "/" + std::string(type.name) + "/" + std::to_string(m)).c_str(),
                                     [=, &type](benchmark::State& state) { matmul(state, *kernels, type, 1024, m); });
    for (const int head_dim : {64, 128, 256})
      for (const int n : {1, 3, 4, 48})
        benchmark::RegisterBenchmark(
            ("attend/" + isa + "/" + std::to_string(head_dim) + "/" + std::to_string(n)).c_str(),
            [=](benchmark::State& state) { attend(state, *kernels, head_dim, n); });
    for (const std::string_view what : {"quantize", "rms_norm", "silu", "gelu", "f32_to_f16", "f16_to_f32"})
      benchmark::RegisterBenchmark((std::string(what) + "/" + isa).c_str(),
                                   [=](benchmark::State& state) { rows(state, *kernels, what); });
  }
}

}  // namespace
}  // namespace hearth::cpu

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("read GB/s of one thread", std::to_string(hearth::bench::limits().read_gb_s));
  benchmark::AddCustomContext("int8 Gop/s of one thread", std::to_string(hearth::bench::limits().int8_gop_s));
  hearth::cpu::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
