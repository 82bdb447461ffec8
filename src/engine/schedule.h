// Which rows the next step runs: a pure function of who waits for what.
#pragma once

#include <span>
#include <vector>

namespace hearth {

// A sequence that is being worked on.
struct Runnable {
  int sequence = 0;
  int waiting = 0;       // tokens not yet run; 1 while it generates, the rest of its prompt before
  bool prefill = false;  // more than the newest token waits, or none was generated yet
};

struct Share {
  int index;  // into the runnables
  int count;  // rows
};

// Rows of one step, at most rows_max together: first a row for everyone who generates (in turn, starting with `first`, if there
// are more of them than rows), then one chunk of at most prefill_max rows of the oldest prompt. So a generating sequence never
// waits for more than one chunk. Sequences come in the order of the runnables (oldest first).
std::vector<Share> compose_step(std::span<const Runnable> runnables, int rows_max, int prefill_max, size_t first);

}  // namespace hearth
