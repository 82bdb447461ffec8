// Which steps a stage runs, repeats or refuses: the other half of chain_owner.h, as pure.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "cluster/chain_owner.h"

namespace hearth::cluster {

class StageSteps {
 public:
  // False, and nothing changes, unless it is later than the last one.
  bool begin(uint64_t epoch);

  enum class Do : uint8_t {
    kRun,
    kRepeat,  // answer() has what was sent before
    kIgnore,  // of another epoch, or a step before it is missing, which will be sent again
  };
  Do on_step(uint64_t epoch, uint64_t step);
  // Of the step that was to be run. It stays so long that the owner can ask for it again.
  void ran(uint64_t step, std::vector<std::byte> sent);
  [[nodiscard]] std::span<const std::byte> answer(uint64_t step) const;

  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] uint64_t refused() const { return refused_; }  // steps of other epochs

 private:
  struct Sent {
    uint64_t step;
    std::vector<std::byte> bytes;
  };
  uint64_t epoch_ = 0, next_ = 1, refused_ = 0;
  std::deque<Sent> sent_;
};

}  // namespace hearth::cluster
