// What the benches of the inner loops share. All run on one thread and follow the registries: a new table of kernels or
// element type appears by itself.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/kernels.h"

namespace hearth::bench {

// Normally distributed, the same for a seed.
std::vector<float> random_floats(int64_t n, uint32_t seed);

// Work of one iteration; what is 0 is not reported.
struct Work {
  double operations = 0;  // a multiply-add is two
  double read_bytes = 0;
  double peak_gop_s = 0;  // of the machine, for such operations
  double limit_gb_s = 0;  // of the machine, for such reads
};

// Counters: Gop/s, GB/s, of_peak and of_read (shares of the limits), and of_limit: the time the larger of both needs at
// least, over the time that it took.
void report(benchmark::State& state, const Work& work, double seconds);
// CPU time of this thread.
double thread_seconds();

// The timed loop and its report.
template <class Loop>
void measure(benchmark::State& state, const Work& work, Loop loop) {
  const double begun = thread_seconds();
  for (auto _ : state) {
    loop();
    benchmark::ClobberMemory();
  }
  report(state, work, thread_seconds() - begun);
}

// "matmul/avx2/Q4_0/m4/memory" and the like.
template <class Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run);
}

void add_matmul(const cpu::Kernels& kernels);
void add_rows(const cpu::Kernels& kernels);
void add_attend(const cpu::Kernels& kernels);
void add_masks();

}  // namespace hearth::bench
