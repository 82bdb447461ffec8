// What this machine can do at most on one thread, measured: the yardstick beside every kernel.
#pragma once

namespace hearth::bench {

struct Limits {
  double read_gb_s;   // summing a buffer far larger than the caches
  double int8_gop_s;  // load, multiply bytes and add in int16, operands in the first-level cache; 0 where there is no
                      // such loop
};

// Cost: about 0.3 s, at the first call.
const Limits& limits();

}  // namespace hearth::bench
