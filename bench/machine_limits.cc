#include "machine_limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace hearth::bench {
namespace {

double seconds_of(auto&& work) {
  double best = 1e9;
  for (int turn = 0; turn < 7; ++turn) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

volatile uint64_t sink;

double read_gb_s() {
  const std::vector<uint64_t> data(32 << 20, 1);
  return 8e-9 * static_cast<double>(data.size()) / seconds_of([&] {
           uint64_t sums[8] = {};
           for (size_t i = 0; i < data.size(); i += 8)
             for (size_t j = 0; j < 8; ++j) sums[j] += data[i + j];
           sink = std::accumulate(sums, sums + 8, uint64_t{0});
         });
}

constexpr int kRounds = 200'000, kProducts = 12;

#if defined(__x86_64__)
__attribute__((target("avx2"))) void int8_rounds() {
  alignas(32) static int8_t codes[64 * 32];
  __m256i sum[kProducts] = {};
  const __m256i x = _mm256_set1_epi8(3);
  for (int round = 0; round < kRounds; ++round) {
    const auto* at = reinterpret_cast<const __m256i*>(codes + (round % 4) * 512);
#pragma GCC unroll 12
    for (int i = 0; i < kProducts; ++i)
      sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(x, _mm256_load_si256(at + i)));
  }
  for (const __m256i& each : sum) sink = sink + static_cast<uint64_t>(_mm256_extract_epi64(each, 0));
}
double int8_gop_s() {
  if (!__builtin_cpu_supports("avx2")) return 0;
  return 64e-9 * kRounds * kProducts / seconds_of(int8_rounds);
}
#elif defined(__aarch64__)
void int8_rounds() {
  static int8_t codes[64 * 32];
  int16x8_t sum[kProducts] = {};
  const int8x8_t x = vdup_n_s8(3);
  for (int round = 0; round < kRounds; ++round) {
    const int8_t* at = codes + (round % 4) * 512;
#pragma GCC unroll 12
    for (int i = 0; i < kProducts; ++i) sum[i] = vmlal_s8(sum[i], vld1_s8(at + 8 * i), x);
  }
  for (const int16x8_t& each : sum) sink = sink + static_cast<uint64_t>(vgetq_lane_s16(each, 0));
}
double int8_gop_s() { return 16e-9 * kRounds * kProducts / seconds_of(int8_rounds); }
#else
double int8_gop_s() { return 0; }
#endif

}  // namespace

const Limits& limits() {
  static const Limits measured{read_gb_s(), int8_gop_s()};
  return measured;
}

}  // namespace hearth::bench
