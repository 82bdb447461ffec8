// Weights larger than memory: a part of every layer of a pack stays, the rest is read from disk each time it is needed, ahead of use.
//
// Layers are used one after the other, again and again. What is read of them goes to two places ("slots") in turn, so that while one
// layer computes the next one arrives. The same share of all layers is read rather than all of some, since the slots are smaller then
// and more stays. Reads are direct where the file system can: nothing of the weights is in the page cache, and what this takes is what
// was asked for.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "base/direct_file.h"
#include "base/process_memory.h"
#include "base/result.h"
#include "model/checkpoint.h"

namespace hearth {

inline constexpr uint64_t kStreamSlots = 2;

// What stays when so many bytes are there.
struct StreamPlan {
  std::vector<std::vector<bool>> streamed;  // of each layer's matrices: whether it is read each time
  uint64_t slot_bytes = 0;                  // of one slot; 0: all stays
  uint64_t resident_bytes = 0;              // of all that is in memory, slots too
  uint64_t read_bytes = 0;                  // from disk, for each pass through the layers
};
// Pure. `layers`: bytes of the matrices of each; `others`: of what always stays. kLimit, with the least that works.
Result<StreamPlan> plan_stream(std::span<const std::vector<uint64_t>> layers, uint64_t others, uint64_t bytes_max);

class WeightStream {
 public:
  // `pack`: a checkpoint that is a pack, which outlives this. What stays is read before this returns.
  static Result<std::unique_ptr<WeightStream>> create(const Checkpoint& pack, Backend& backend, uint64_t bytes_max);
  // The plan alone; of a checkpoint that is no pack that of the pack made from it, to a few KiB.
  static Result<StreamPlan> plan(const Checkpoint& checkpoint, Backend& backend, uint64_t bytes_max);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  [[nodiscard]] const StreamPlan& plan() const { return plan_; }
  // Where bytes of the mapped pack are in memory, or will be; themselves if they stay mapped.
  [[nodiscard]] std::span<const std::byte> place(std::span<const std::byte> mapped) const;
  // Layers in order, 0 to the last, then 0 again; one thread. Waits until the layer is there. A disk that no longer reads ends the
  // program, as it does for mapped packs (mapped_guard.h).
  void acquire(int layer);
  // The layer's slot may take another.
  void release(int layer);

 private:
  // A matrix, or a slice of one, in the file and in memory. What is read begins and ends at whole pages.
  struct Part {
    uint64_t begin = 0, end = 0;
    std::byte* at = nullptr;  // of the page in which it begins
  };
  struct Layer {
    std::vector<size_t> parts;  // that are read each time; none: all of it stays
    size_t missing = 0;         // pieces still to come
    bool wanted = false;
  };
  struct Piece {
    uint64_t offset = 0, bytes = 0;
    std::byte* at = nullptr;
    size_t layer = 0;
  };
  explicit WeightStream(const Checkpoint& pack) : pack_(pack) {}
  Result<void> lay_out();
  static std::vector<Piece> pieces(const Part& part, size_t layer);
  void request(size_t layer);
  void work();

  const Checkpoint& pack_;
  StreamPlan plan_;
  std::vector<Part> parts_;  // by their place in the file
  std::vector<Layer> layers_;
  std::vector<size_t> streamed_;  // layers of which something is read, in order
  PageMemory memory_;
  DirectFile file_;

  std::mutex mutex_;
  std::condition_variable wake_, arrived_;
  std::deque<Piece> wanted_;
  bool stop_ = false;
  std::vector<std::jthread> readers_;
};

}  // namespace hearth
