#include "machine_limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace hearth::bench {
namespace {

using Clock = std::chrono::steady_clock;

// A burst does some milliseconds of work at most and says how much it was (bytes or operations).
using Burst = std::function<double()>;

constexpr int kWindows = 4;
constexpr std::chrono::milliseconds kWindow{50};

// The best sum over all threads in one window, in 1e9 units per second. `prepare` runs on the thread that uses what it
// makes, so that memory lies near it.
double best_rate(int threads, const std::function<Burst()>& prepare) {
  std::vector<std::array<double, kWindows>> rates(static_cast<size_t>(threads));
  std::barrier all(threads);
  {
    std::vector<std::jthread> running;
    for (auto& mine : rates) {
      running.emplace_back([&] {
        const Burst burst = prepare();
        burst();
        for (double& rate : mine) {
          all.arrive_and_wait();
          const auto begun = Clock::now();
          double done = 0;
          while (Clock::now() - begun < kWindow) done += burst();
          rate = 1e-9 * done / std::chrono::duration<double>(Clock::now() - begun).count();
        }
      });
    }
  }
  double best = 0;
  for (size_t window = 0; window < kWindows; ++window) {
    double sum = 0;
    for (const auto& mine : rates) sum += mine[window];
    best = std::max(best, sum);
  }
  return best;
}

// Sums that run side by side: enough for the latency, and few enough for the registers.
#if defined(__x86_64__)
constexpr int kRounds = 4000, kSums = 8, kDotSums = 12;
#else
constexpr int kRounds = 4000, kSums = 16, kDotSums = 16;
#endif

#if defined(__x86_64__)
// In assembly, as compilers copy and spill such sums, or leave the work out.
bool has_vectors() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

__attribute__((target("avx2"))) double read_vectors(const std::byte* at, size_t bytes) {
  __m256i sum[4] = {};
  for (size_t i = 0; i < bytes; i += 128)
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j)
      asm volatile("vpor %1, %0, %0" : "+x"(sum[j]) : "m"(*reinterpret_cast<const __m256i*>(at + i + 32 * j)));
  return static_cast<double>(bytes);
}

__attribute__((target("avx2,fma"))) double fp32_burst() {
  __m256 sum[kSums] = {};
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) asm volatile("vfmadd231ps %1, %2, %0" : "+x"(sum[i]) : "x"(a), "x"(b));
  }
  return 2.0 * 8 * kSums * kRounds;
}

template <bool kInt16>
__attribute__((target("avx2"))) double int8_burst() {
  __m256i sum[kSums] = {}, pairs;
  const __m256i codes = _mm256_set1_epi8(3), x = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      if constexpr (kInt16)
        asm volatile("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+x"(sum[i]), "=&x"(pairs) : "x"(x), "x"(codes));
      else
        asm volatile("vpmaddubsw %2, %3, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
                     : "+x"(sum[i]), "=&x"(pairs)
                     : "x"(x), "x"(codes), "x"(ones));
    }
  }
  return 2.0 * 32 * kSums * kRounds;
}

__attribute__((target("avx512f,avx512vnni"))) double dot_burst() {
  __m512i sum[kDotSums] = {};
  const __m512i codes = _mm512_set1_epi8(3), x = _mm512_set1_epi8(1);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kDotSums; ++i) asm volatile("vpdpbusd %1, %2, %0" : "+v"(sum[i]) : "v"(x), "v"(codes));
  }
  return 2.0 * 64 * kDotSums * kRounds;
}

bool has_dot() { return __builtin_cpu_supports("avx512vnni"); }
#elif defined(__aarch64__)
// Keeps values apart and unknown to the compiler, so that neither the work nor its loop goes away.
template <class T>
inline void keep(T& value) {
  asm volatile("" : "+w"(value));
}
template <class T>
inline void keep_all(T& values) {
#pragma GCC unroll 16
  for (auto& each : values) keep(each);
}

double read_vectors(const std::byte* at, size_t bytes) {
  uint8x16_t sum[4] = {};
  for (size_t i = 0; i < bytes; i += 64)
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j)
      sum[j] = vorrq_u8(sum[j], vld1q_u8(reinterpret_cast<const uint8_t*>(at) + i + 16 * j));
  keep_all(sum);
  return static_cast<double>(bytes);
}

double fp32_burst() {
  float32x4_t sum[kSums] = {}, a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.25f);
  keep_all(sum);
  for (int round = 0; round < kRounds; ++round) {
    keep(a);
    keep(b);
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sum[i] = vfmaq_f32(sum[i], a, b);
  }
  keep_all(sum);
  return 2.0 * 4 * kSums * kRounds;
}

template <bool kInt16>
double int8_burst() {
  int16x8_t sum[kSums] = {};
  int32x4_t wide[kSums] = {};
  int8x8_t codes = vdup_n_s8(3), x = vdup_n_s8(1);
  keep_all(sum);
  for (int round = 0; round < kRounds; ++round) {
    keep(x);
    keep(codes);
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      if constexpr (kInt16)
        sum[i] = vmlal_s8(sum[i], codes, x);
      else
        wide[i] = vpadalq_s16(wide[i], vmull_s8(codes, x));
    }
  }
  keep_all(sum);
  keep_all(wide);
  return 2.0 * 8 * kSums * kRounds;
}

#if defined(__clang__)
__attribute__((target("dotprod")))
#else
__attribute__((target("arch=armv8.2-a+dotprod")))
#endif
double
dot_burst() {
  int32x4_t sum[kSums] = {};
  int8x16_t codes = vdupq_n_s8(3), x = vdupq_n_s8(1);
  keep_all(sum);
  for (int round = 0; round < kRounds; ++round) {
    keep(x);
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sum[i] = vdotq_s32(sum[i], codes, x);
  }
  keep_all(sum);
  return 2.0 * 16 * kSums * kRounds;
}

bool has_vectors() { return true; }
bool has_dot() { return (getauxval(AT_HWCAP) & (1ul << 20)) != 0; }
#else
double read_vectors(const std::byte*, size_t) { return 0; }
double fp32_burst() { return 0; }
template <bool>
double int8_burst() {
  return 0;
}
double dot_burst() { return 0; }
bool has_vectors() { return false; }
bool has_dot() { return false; }
#endif

double read_bytes(const std::byte* at, size_t bytes) {
  if (has_vectors()) return read_vectors(at, bytes);
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes; i += 8) sum |= *reinterpret_cast<const uint64_t*>(at + i);
  asm volatile("" : "+r"(sum));
  return static_cast<double>(bytes);
}

// Reads a buffer round and round, `step` bytes each time; in huge pages where the system has them, as weights lie.
Burst reading(size_t bytes, size_t step) {
  constexpr size_t kHugePage = 2 << 20;
  const std::shared_ptr<std::byte> data(static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes)), std::free);
  madvise(data.get(), bytes, MADV_HUGEPAGE);
  std::memset(data.get(), 1, bytes);
  return [=, at = size_t{0}]() mutable {
    at = at + step >= bytes ? 0 : at + step;
    return read_bytes(data.get() + at, step);
  };
}

Limits measure(int threads) {
  auto rate_if = [&](bool present, double (*burst)()) {
    return present ? best_rate(threads, [=] { return Burst(burst); }) : 0.0;
  };
  constexpr size_t kMiB = 1 << 20, kKiB = 1 << 10;
  return {.read_gb_s = best_rate(threads, [] { return reading(256 * kMiB, kMiB); }),
          .read_cached_gb_s = best_rate(threads, [] { return reading(128 * kKiB, 128 * kKiB); }),
          .fp32_gflop_s = rate_if(has_vectors(), fp32_burst),
          .int8_add16_gop_s = rate_if(has_vectors(), int8_burst<true>),
          .int8_add32_gop_s = rate_if(has_vectors(), int8_burst<false>),
          .int8_dot_gop_s = rate_if(has_dot(), dot_burst)};
}

}  // namespace

double Limits::int8_gop_s() const { return std::max({int8_add16_gop_s, int8_add32_gop_s, int8_dot_gop_s}); }

const Limits& limits(int threads) {
  static std::map<int, Limits> known;
  const auto found = known.find(threads);
  return found != known.end() ? found->second : known.emplace(threads, measure(threads)).first->second;
}

}  // namespace hearth::bench
