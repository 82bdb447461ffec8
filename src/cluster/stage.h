// Some layers of a model with their part of the sequences' state: what one machine of a chain computes. No links, no threads.
#pragma once

#include <memory>
#include <span>

#include "cluster/wire.h"
#include "model/decoder.h"
#include "model/sequence.h"

namespace hearth::cluster {

struct StageOptions {
  LayerRange layers{};
  int context = 0, rows_max = 0;
  SequenceOptions sequences{};
};
bool same(const StageOptions& a, const StageOptions& b);

class Stage {
 public:
  // The checkpoint (a pack's matrices are used where they lie) and the backend outlive it.
  static Result<std::unique_ptr<Stage>> create(const Checkpoint& checkpoint, Backend& backend,
                                               const StageOptions& options);

  // Forgets all sequences; what a new epoch begins with.
  Result<void> reset();
  // The operations, then the layers over `hidden`, in place. kInvalidArgument if sequences, positions or sizes are not possible; then
  // the stage is to be reset.
  Result<void> run(std::span<const SequenceOp> ops, std::span<const StepRows> rows, std::span<float> hidden);

  [[nodiscard]] const StageOptions& options() const { return options_; }
  [[nodiscard]] int64_t weight_bytes() const { return decoder_->weight_bytes(); }

 private:
  Stage(Backend& backend, StageOptions options) : backend_(backend), options_(options) {}

  Backend& backend_;
  StageOptions options_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<SequenceStore> store_;
  std::vector<SequenceRows> rows_;
  std::vector<int32_t> tokens_;
};

}  // namespace hearth::cluster
