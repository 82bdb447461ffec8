// What a machine has of a chain, and which steps it runs, repeats or refuses: the other half of chain_owner.h, as pure.
//
// Layers are held in pieces, as the chain's first plan divides them, each with its own state and with what came out of its last steps. So a
// machine that takes over a lost one's layers goes on with its own piece and with the copy it has of the other; a step that one of them
// has run is only repeated there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/chain_plan.h"

namespace hearth::cluster {

// Of a chain whose steps have so many bytes at most: so many are kept to be sent again.
constexpr size_t steps_kept(uint64_t step_bytes) {
  constexpr uint64_t kBytes = 32u << 20;
  return static_cast<size_t>(std::clamp<uint64_t>(kBytes / std::max<uint64_t>(step_bytes, 1), 16, 256));
}

// The steps that one piece has run. `Data`: what comes out of one.
template <typename Data>
class StageSteps {
 public:
  explicit StageSteps(size_t kept) : kept_(kept) {}
  // The state is that after so many steps now, and comes from elsewhere.
  void set_done(uint64_t step) {
    done_ = step;
    out_.clear();
  }
  [[nodiscard]] bool is_next(uint64_t step) const { return step == done_ + 1; }
  void ran(uint64_t step, Data out) {
    done_ = step;
    out_.push_back(std::move(out));
    if (out_.size() > kept_) out_.pop_front();
  }
  // Null: it was not run here, or that is too long ago.
  [[nodiscard]] const Data* out(uint64_t step) const {
    return step < oldest() || step > done_ ? nullptr : &out_[static_cast<size_t>(step - oldest())];
  }
  [[nodiscard]] uint64_t done() const { return done_; }
  [[nodiscard]] uint64_t oldest() const { return done_ + 1 - out_.size(); }

 private:
  size_t kept_;
  uint64_t done_ = 0;
  std::deque<Data> out_;  // of the steps up to done_
};

template <typename Layers, typename Data>
class StagePieces {
 public:
  struct Piece {
    LayerRange range;
    Layers layers;
    StageSteps<Data> steps;
    bool whole = true;  // false: a copy that is not one yet
  };
  struct State {
    bool there = false;
    uint64_t done = 0, oldest = 0;
  };

  // A later epoch, in which nothing is known. False, and nothing changes, unless it is later; as for the others.
  bool begin(uint64_t epoch) {
    if (epoch <= epoch_) return false;
    epoch_ = epoch;
    pieces_.clear(), copies_.clear();
    return true;
  }
  void set_pieces(std::vector<Piece> pieces) { pieces_ = std::move(pieces); }
  std::vector<Piece> take_pieces() { return std::exchange(pieces_, {}); }
  // A later epoch that goes on with what is here: of these layers, its own and copies; no State::there if that is not all of them.
  std::optional<State> resume(uint64_t epoch, LayerRange range) {
    if (epoch <= epoch_) return std::nullopt;
    epoch_ = epoch;
    for (Piece& copy : copies_)
      if (copy.whole) pieces_.push_back(std::move(copy));
    copies_.clear();
    std::vector<Piece> all;
    State state{.there = true, .done = UINT64_MAX, .oldest = 0};
    for (int at = range.first; at < range.end; at = all.back().range.end) {
      const auto next = std::ranges::find(pieces_, at, [](const Piece& piece) { return piece.range.first; });
      if (next == pieces_.end() || next->range.end > range.end) {
        pieces_.clear();
        return State{};
      }
      state.done = std::min(state.done, next->steps.done());
      state.oldest = std::max(state.oldest, next->steps.oldest());
      all.push_back(std::move(*next));
      pieces_.erase(next);
    }
    pieces_ = std::move(all);
    return state;
  }

  // A copy that is filled from now on, of this epoch.
  void add_copy(Piece copy) {
    copy.whole = false;
    std::erase_if(copies_, [&](const Piece& other) { return other.range.first == copy.range.first; });
    copies_.push_back(std::move(copy));
  }
  [[nodiscard]] Piece* find_copy(uint64_t epoch, LayerRange range) { return find(copies_, epoch, range); }
  [[nodiscard]] Piece* find_piece(uint64_t epoch, LayerRange range) { return find(pieces_, epoch, range); }

  enum class Did : uint8_t {
    kSend,    // `data` is what came out, now or before
    kIgnore,  // of another epoch, or a step before it is missing, which will be sent again
    kFail,    // a piece did not run it
  };
  // run(layers, data): whether it could.
  template <typename Run>
  Did step(uint64_t epoch, uint64_t number, Data& data, Run run) {
    if (epoch != epoch_) ++refused_;
    if (epoch != epoch_ || pieces_.empty()) return Did::kIgnore;
    for (Piece& piece : pieces_) {
      if (piece.steps.is_next(number)) {
        if (!run(piece.layers, data)) return Did::kFail;
        piece.steps.ran(number, data);
      } else if (const Data* out = piece.steps.out(number)) {
        data = *out;
      } else {
        return Did::kIgnore;
      }
    }
    return Did::kSend;
  }

  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] uint64_t refused() const { return refused_; }  // steps of other epochs

 private:
  Piece* find(std::vector<Piece>& in, uint64_t epoch, LayerRange range) {
    const auto found = std::ranges::find_if(
        in, [&](const Piece& each) { return each.range.first == range.first && each.range.end == range.end; });
    return epoch != epoch_ || found == in.end() ? nullptr : &*found;
  }

  uint64_t epoch_ = 0, refused_ = 0;
  std::vector<Piece> pieces_, copies_;
};

}  // namespace hearth::cluster
