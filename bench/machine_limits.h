// What this machine can do at most, measured: the yardstick beside every kernel and every token per second.
#pragma once

namespace hearth::bench {

// Rates of all threads together, each the best of a few windows of 50 ms (a busy machine shows less than it has).
struct Limits {
  double read_gb_s;         // streaming 256 MiB per thread once, far beyond the caches
  double read_cached_gb_s;  // the same 128 KiB again and again
  double fp32_gflop_s;      // fused multiply-adds on registers, two operations each
  // Products of bytes, two operations each; 0 where the instruction is missing.
  double
      int8_add16_gop_s;  // multiply and add pairs in int16, accumulate in int16 (x86: vpmaddubsw, vpaddw; ARM: smlal)
  double int8_add32_gop_s;  // widened to int32 at each step (x86: vpmaddwd too; ARM: smull, sadalp)
  double int8_dot_gop_s;    // one instruction for four products into int32 (vpdpbusd, sdot)

  // The fastest way to multiply bytes.
  [[nodiscard]] double int8_gop_s() const;
};

// Measured at the first call for each number of threads (1 to 256), about a second. Not for several threads at once.
const Limits& limits(int threads);

}  // namespace hearth::bench
