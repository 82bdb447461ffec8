// Each kernel of each instruction set this machine has, on one thread, as a share of the machine's limits.
//   hearth-bench [--benchmark_filter=matmul/avx2/Q4_0]   the kernels
//   hearth-bench --limits [THREADS]                      the limits alone, as JSON
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>

#include "kernel_bench.h"
#include "machine_limits.h"

namespace hearth::bench {

std::vector<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void report(benchmark::State& state, const Work& work, double seconds) {
  const double each = seconds / static_cast<double>(state.iterations());
  double least_seconds = 0;
  auto add_counters = [&](const char* rate, const char* share, double amount, double limit) {
    if (amount <= 0) return;
    state.counters[rate] = 1e-9 * amount / each;
    if (limit <= 0) return;
    state.counters[share] = 1e-9 * amount / limit / each;
    least_seconds = std::max(least_seconds, 1e-9 * amount / limit);
  };
  add_counters("Gop/s", "of_peak", work.operations, work.peak_gop_s);
  add_counters("GB/s", "of_read", work.read_bytes, work.limit_gb_s);
  if (least_seconds > 0) state.counters["of_limit"] = least_seconds / each;
}

namespace {

std::string json_of(int threads) {
  const Limits& known = limits(threads);
  char text[512];
  std::snprintf(text, sizeof text,
                "{\"threads\":%d,\"read_gb_s\":%.1f,\"read_cached_gb_s\":%.1f,\"fp32_gflop_s\":%.0f,"
                "\"int8_add16_gop_s\":%.0f,\"int8_add32_gop_s\":%.0f,\"int8_dot_gop_s\":%.0f}",
                threads, known.read_gb_s, known.read_cached_gb_s, known.fp32_gflop_s, known.int8_add16_gop_s,
                known.int8_add32_gop_s, known.int8_dot_gop_s);
  return text;
}

}  // namespace
}  // namespace hearth::bench

int main(int argc, char** argv) {
  using namespace hearth;
  if (argc >= 2 && std::strcmp(argv[1], "--limits") == 0) {
    const int threads = argc >= 3 ? std::atoi(argv[2]) : 1;
    if (threads < 1 || threads > 256) return std::fprintf(stderr, "hearth-bench: threads: 1 to 256\n"), 2;
    std::printf("%s\n", bench::json_of(threads).c_str());
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("limits of one thread", bench::json_of(1));
  for (const cpu::Kernels* kernels : cpu::all_kernels()) {
    if (!kernels->supported()) continue;
    bench::add_matmul(*kernels);
    bench::add_rows(*kernels);
    bench::add_attend(*kernels);
  }
  bench::add_masks();
  benchmark::RunSpecifiedBenchmarks();
}
