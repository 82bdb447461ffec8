// The layers of a model elsewhere than in the engine's decoder, which then has embedding and head alone.
//
// The engine drives it step by step, with what happened to its sequences in between; whoever has the layers keeps their state in
// stores that do the same. Called by the engine's thread alone.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/decoder.h"

namespace hearth {

// What a chain tells of itself. Counters go up only.
struct ChainStats {
  struct Machine {  // and the links to it
    std::string name;
    int first_layer = 0, end_layer = 0;  // that it runs now
    uint64_t bytes_sent = 0, bytes_received = 0, frames_sent = 0, frames_received = 0;
    double round_trip_seconds = 0;  // of the newest ping
  };
  std::vector<Machine> machines;
  std::string plan{};           // the first one, and why it is that
  uint64_t steps = 0;           // posted, prompts in parts
  uint64_t epochs = 0;          // begun
  uint64_t losses = 0;          // of machines with a stage
  uint64_t moves = 0;           // of stages, as planned
  uint64_t resumed = 0;         // epochs in which no state was lost
  uint64_t steps_repeated = 0;  // sent again for that
};

class Chain {
 public:
  virtual ~Chain() = default;
  // The whole model's, so that the engine's store counts pages and knows recurrent layers as if they were here.
  [[nodiscard]] virtual const DecoderConfig& config() const = 0;
  // Told once, before the first step: with these every stage makes its store.
  virtual Result<void> start(const SequenceOptions& sequences, int context) = 0;

  enum class Ran : uint8_t {
    kYes,
    kStartOver,  // state was lost; from now on no stage knows any sequence, and they are run again from their tokens
  };
  // Steps that can be under way at once with gain: one for each stage.
  [[nodiscard]] virtual int depth() const = 0;
  // Sends a step on its way: all layers over `stream`, [rows][d_model], in place, which stays where it is until the step is collected
  // or lost; no sequence of it is in another step under way. `ops`: what happened to the sequences since the last step was posted, in
  // order. kStartOver, here and below: this step and all that are under way are lost, too. An error means that, and that the layers are
  // nowhere to be had now; the next call tries again.
  virtual Result<Ran> post(std::span<const SequenceOp> ops, std::span<const SequenceRows> rows,
                           std::span<float> stream) = 0;
  // Waits for the oldest step under way, of which there is one.
  virtual Result<Ran> collect() = 0;
  // Of each number that travels between machines; below 32 the answer is not that of one machine.
  [[nodiscard]] virtual int row_bits() const { return 32; }
  // From any thread.
  [[nodiscard]] virtual ChainStats stats() const { return {}; }
};

}  // namespace hearth
