// Weights larger than memory: a part of every layer of a pack stays, the rest is read from disk each time it is needed, ahead of use.
// Experts of a mixture are read when they are needed, and those used most stay (expert_cache.h).
//
// Layers are used one after the other, again and again. What is read of them goes to two places ("slots") in turn, so that while one
// layer computes the next one arrives. The same share of all layers is read rather than all of some, since the slots are smaller then
// and more stays. Reads are direct where the file system can: nothing of the weights is in the page cache, and what this takes is what
// was asked for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/process_memory.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "model/expert_cache.h"
#include "model/piece_reader.h"

namespace hearth {

inline constexpr uint64_t kStreamSlots = 2;

// The experts of a mixture, all layers' together.
struct ExpertSizes {
  uint64_t n = 0, bytes = 0;  // how many; all of them
  uint64_t slot_bytes = 0;    // of the largest
  uint64_t layers = 0;        // that have any
  uint64_t used = 0;          // by a row, in one layer
};

struct WeightSizes {
  std::vector<std::vector<uint64_t>> layers;  // bytes of each layer's matrices without its experts
  uint64_t others = 0;                        // of what always stays
  ExpertSizes experts;
};

// What stays when so many bytes are there.
struct StreamPlan {
  std::vector<std::vector<bool>> streamed;  // of each layer's matrices but its experts: whether it is read each time
  uint64_t slot_bytes = 0;                  // of one slot for those; 0: they all stay
  uint64_t expert_slots = 0;                // experts that are in memory; all of them where nothing is read
  uint64_t expert_slot_bytes = 0;           // of each of these slots
  uint64_t resident_bytes = 0;              // of all that is in memory, slots too
  // From disk for each pass of one row through the layers, experts as if all were used equally often; 0: all stays.
  uint64_t read_bytes = 0;
};
// Pure. What is not experts stays before they do: every token needs it. kLimit, with the least that works.
Result<StreamPlan> plan_stream(const WeightSizes& sizes, uint64_t bytes_max);

class WeightStream {
 public:
  // `pack`: a checkpoint that is a pack, which outlives this. What stays is read before this returns; if that is all, it is
  // used where it is mapped.
  static Result<std::unique_ptr<WeightStream>> create(const Checkpoint& pack, uint64_t bytes_max);
  // The plan alone; of a checkpoint that is no pack that of the pack made from it, to a few KiB.
  static Result<StreamPlan> plan(const Checkpoint& checkpoint, Backend& backend, uint64_t bytes_max);

  [[nodiscard]] const StreamPlan& plan() const { return plan_; }
  // A weight loaded from a matrix of the pack, before any step: its slices are placed where they are in memory, from now on.
  void attach(Weight& weight, std::span<const std::span<const std::byte>> slices);
  // Before the weights go.
  void detach();
  // Another bound for weights alone, higher or lower, between steps and on their thread. What has to go is given back to the
  // kernel before anything else is read. kLimit, if it is less than the least that works: nothing has changed then. After other
  // errors weights are not all there: the stream is of no use any more.
  Result<void> set_bytes_max(uint64_t bytes_max);

  // Waits until the layer is there; one thread. Layers in order, 0 to the last, then 0 again, are read ahead; any other order costs
  // time. A disk that no longer reads ends the program (piece_reader.h).
  void acquire(int layer);
  // The layer's slot may take another.
  void release(int layer);
  // Null: all experts are in memory.
  [[nodiscard]] ExpertSource* experts() { return plan_.read_bytes > 0 ? experts_.get() : nullptr; }

  // Any thread; they only go up.
  [[nodiscard]] uint64_t read_bytes() const { return reader_->read_bytes(); }
  [[nodiscard]] uint64_t expert_hits() const { return experts_ ? experts_->hits() : 0; }
  [[nodiscard]] uint64_t expert_misses() const { return experts_ ? experts_->misses() : 0; }

 private:
  // Its slices lie in memory one after the other, each from the page in which it begins in the file.
  struct Matrix {
    int layer = -1;
    std::vector<FileSlice> slices;
    PageMemory memory;        // if it stays, and not all does
    std::byte* at = nullptr;  // there, or in a slot; null: where it is mapped
  };
  struct Layer {
    std::vector<size_t> matrices;  // all of them
    std::optional<size_t> turn;    // among those of which something is read
    PieceReader::Load load;
  };
  struct Slot {
    PageMemory memory;
    std::optional<size_t> layer;
  };
  // Where a slice of the pack is kept account of.
  struct Place {
    uint64_t begin = 0;
    bool expert = false;
    size_t index = 0, slice = 0;  // of a matrix and its slice; or of a layer and its expert
  };
  explicit WeightStream(const Checkpoint& pack) : pack_(pack) {}
  Result<void> find_matrices();
  void place(const Matrix& matrix) const;
  void read(const Matrix& matrix, PieceReader::Load& load);
  // Unless the slot has it.
  void fetch(Slot& slot, size_t layer);

  const Checkpoint& pack_;
  StreamPlan plan_;
  WeightSizes sizes_;
  std::vector<Matrix> matrices_;
  std::vector<Place> places_;  // by `begin`
  std::vector<Layer> layers_;
  std::vector<size_t> streamed_;  // layers of which something is read, in order
  std::array<Slot, kStreamSlots> slots_;
  std::unique_ptr<ExpertCache> experts_;  // null: there is no mixture
  std::unique_ptr<PieceReader> reader_;   // last: its threads write to what is above
};

}  // namespace hearth
