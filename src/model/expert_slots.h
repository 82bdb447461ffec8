// Which experts of a mixture are in memory when not all fit: those that the rows of late used most.
//
// Every expert, in memory or not, has a score: how many rows used it, each counted half after kHalfLifeRows more rows. What is needed
// and not there takes the place of the expert with the least score. So experts that are used often stay, and those that come and go
// share the places that are left (LFU with decay; LRU would keep nothing, since a token uses the layers in turn).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace hearth {

// Pure. Experts of all layers are numbered through.
class ExpertSlots {
 public:
  static constexpr double kHalfLifeRows = 32;

  explicit ExpertSlots(size_t n_experts, double half_life = kHalfLifeRows);

  // Keeps what is in the first `n`; nothing is held.
  void resize(size_t n);
  [[nodiscard]] size_t size() const { return slots_.size(); }
  // So many rows went by; a part of one for each layer.
  void pass(double rows);
  void use(size_t expert, int rows);
  [[nodiscard]] std::optional<size_t> find(size_t expert) const;
  // A slot for an expert that has none; it is held. Nothing: all are held.
  std::optional<size_t> take(size_t expert);
  // What is held keeps its slot.
  void hold(size_t slot) { slots_[slot].held = true; }
  void let_go(size_t slot) { slots_[slot].held = false; }

 private:
  struct Slot {
    int64_t expert = -1;
    bool held = false;
  };
  double half_life_, weight_ = 1.0;  // of a row now; older ones count what they did then
  std::vector<double> scores_;
  std::vector<int64_t> places_;  // of each expert, -1: none
  std::vector<Slot> slots_;
};

}  // namespace hearth
