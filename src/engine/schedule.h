// Which rows the next step runs, and how long things take: pure functions of who waits for what and of what was measured.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/request.h"

namespace hearth {

// Who comes first: by class, then the earlier deadline, then the higher priority, then the tenant that was given less, then whoever
// came earlier.
struct Precedence {
  RequestClass request_class = RequestClass::kInteractive;
  double deadline = std::numeric_limits<double>::infinity();  // seconds on the engine's clock
  int priority = 0;
  double tenant_served = 0;
  uint64_t arrival = 0;
};
bool before(const Precedence& a, const Precedence& b);

// Who wants a place, and for how long it has wanted one.
struct Waiting {
  Precedence precedence{};
  double seconds = 0;
};
// Whose turn it is: an index, -1 if nobody waits. That is who comes before all others; but so that nobody waits for ever, with
// `overdue_turn` it is the one that has waited longest, if it has waited for `patience` seconds and the first is not real-time work.
int choose_waiting(std::span<const Waiting> waiting, double patience, bool overdue_turn);

// A sequence that is being worked on.
struct Runnable {
  int waiting = 0;       // tokens not yet run; 1 while it generates, the rest of its prompt before
  bool prefill = false;  // more than the newest token waits, or none was generated yet
  Precedence precedence{};
};

struct Share {
  int index;  // into the runnables
  int count;  // rows
};

struct StepLimits {
  int rows_max = 512;             // of the whole step
  int prefill_max = 512;          // rows of prompts where nobody generates
  int mixed_prefill = 128;        // rows of prompts where somebody waits for the next token
  int generating_max = 1 << 30;   // sequences that generate, in one step
  int classes = kRequestClasses;  // so many run, the most urgent ones
};

// Rows of one step: first a row for everyone who generates (in turn, starting with `first`, if there are more of them than rows),
// then one chunk of prompts, in the order of precedence. So a generating sequence never waits for more than one chunk. Batch work
// stands still while real-time work runs. Replaces what `shares` holds.
void compose_step(std::span<const Runnable> runnables, const StepLimits& limits, size_t first,
                  std::vector<Share>& shares);

// How fast this model runs here, as measured step by step.
class Pace {
 public:
  // A step that ran so many rows of prompts and of generating sequences took so long.
  void add(int prompt_rows, int decode_rows, double seconds);
  // 0 as long as nothing was measured.
  [[nodiscard]] double prompt_row_seconds() const { return prompt_row_; }
  [[nodiscard]] double decode_step_seconds() const { return decode_step_; }
  // Rows of prompts that take about so long, at least 64 and at most `rows_max`.
  [[nodiscard]] int rows_within(double seconds, int rows_max) const;
  // Rows of prompts to run beside generating sequences, so that these wait no longer than a few decode steps.
  [[nodiscard]] int mixed_prefill(int prefill_max) const;

 private:
  double prompt_row_ = 0, decode_step_ = 0;
};

}  // namespace hearth
