// Who sets the pace of engines: the power governor, which knows no engine. `cli` stands between the two.
#pragma once

#include "base/result.h"
#include "engine/request.h"

namespace hearth {

// What holds until the next step ends. None of it changes a token but the bits.
struct Pacing {
  double pause_seconds = 0;       // before the next step
  double share = 1;               // of the time, that steps have in the long run; for estimates
  int classes = kRequestClasses;  // so many classes of requests run, the most urgent ones; the others stand still
  int threads = 0;                // that compute; 0: all
  int prefill_max = 1 << 20;      // rows of a chunk of prompts
  int drafts_max = -1;            // guessed tokens for a sequence in a step; -1: as many as pay
  int bits = 8;                   // 8 or 4, of a model with low planes whose precision may be switched
};

// One for each engine.
class Pacer {
 public:
  virtual ~Pacer() = default;
  // Whether a request may come in now; any thread. An error says why not.
  virtual Result<void> admit(const Request& request) = 0;
  // Of a step. Drafted: of the rows that decoded, and how many of those became part of an answer.
  struct Rows {
    int prompt = 0, decode = 0, drafted = 0, accepted = 0;
    [[nodiscard]] int generated() const { return decode - drafted + accepted; }
  };
  // After each step, and where all that could run stands still, on the engine's thread.
  virtual Pacing step_done(const Rows& rows) = 0;
  // Energy used since the last call by anyone; `measured`: not only modelled. On the engine's thread.
  struct Energy {
    double joules = 0;
    bool measured = false;
  };
  virtual Energy take_energy() = 0;
};

}  // namespace hearth
