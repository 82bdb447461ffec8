// Some layers of a model with their part of the sequences' state: what one machine of a chain computes. No links, no threads.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>

#include "cluster/chain_plan.h"
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

// Rows of one message: enough that weights are read for many, few enough that stages have something to do at once.
inline constexpr int kPartRows = 128;
// Of one step of a chain.
inline uint64_t step_bytes_max(const DecoderConfig& config) {
  return static_cast<uint64_t>(kPartRows) * static_cast<uint64_t>(config.d_model) * sizeof(float);
}
// Whether layers can go on from a copy: recurrent ones cannot go back to where a step began.
inline bool can_resume(const DecoderConfig& config) {
  return std::ranges::all_of(config.layers, [](const LayerConfig& layer) { return layer.mixer == Mixer::kAttention; });
}

class Stage {
 public:
  // The checkpoint (a pack's matrices are used where they lie) and the backend outlive it.
  static Result<std::unique_ptr<Stage>> create(const Checkpoint& checkpoint, Backend& backend,
                                               const StageOptions& options);

  // Runs a step of kWarmUpRows rows and forgets it: the weights are there then, and how long it took tells how fast this is.
  Result<std::chrono::microseconds> warm_up();
  // Forgets all sequences; what a new epoch begins with.
  Result<void> reset();
  // The operations, then the layers over `hidden`, in place. kInvalidArgument if sequences, positions or sizes are not possible; then
  // the stage is to be reset.
  Result<void> run(std::span<const SequenceOp> ops, std::span<const StepRows> rows, std::span<float> hidden);

  [[nodiscard]] const StageOptions& options() const { return options_; }
  [[nodiscard]] SequenceStore& store() { return *store_; }
  [[nodiscard]] const DecoderConfig& config() const { return decoder_->config(); }
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

inline constexpr int kHeadRows = 32;  // of one message
// The output head of a model: without state, so that any machine can go on for another.
class HeadStage {
 public:
  // As a Stage.
  static Result<std::unique_ptr<HeadStage>> create(const Checkpoint& checkpoint, Backend& backend);
  // At most kHeadRows of them. kInvalidArgument for sizes that are not possible.
  Result<HeadAnswer> run(const HeadRows& rows);
  // A row, so that the weights are there; how long the second time took.
  Result<std::chrono::microseconds> warm_up();

 private:
  explicit HeadStage(std::unique_ptr<Decoder> decoder) : decoder_(std::move(decoder)) {}

  std::unique_ptr<Decoder> decoder_;
  std::vector<int32_t> wanted_;
};

}  // namespace hearth::cluster
