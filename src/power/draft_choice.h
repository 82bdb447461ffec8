// Whether guessed tokens are worth their energy. A guess that comes true saves a step, one that does not was a row for nothing: where
// memory is waited for it costs no time, but the cores are awake for it. Which weighs more is measured: a while with guesses, a while without.
#pragma once

#include <array>

namespace hearth::power {

class DraftChoice {
 public:
  // Of the time since the last call, in which nothing but generating was done.
  void add(double seconds, double tokens, double drafted, double joules);
  // Whether to guess. Where not each row counts, always.
  bool choose(double seconds, bool each_row_counts);
  // It is known that they cost more than they save, not only being tried out.
  [[nodiscard]] bool settled_without() const { return without_; }
  // 0: not known.
  [[nodiscard]] double joules_per_token(bool with_drafts) const { return seen_[with_drafts ? 1 : 0].joules_per_token; }

 private:
  struct Seen {
    double joules_per_token = 0, at = 0;
  };
  std::array<Seen, 2> seen_{};                          // without and with
  double tokens_ = 0, drafted_ = 0, joules_ = 0;        // of the window that runs
  double began_ = 0;                                    // when
  bool trying_ = false, without_ = false, now_ = true;  // the other one is tried; what is better; what runs
};

}  // namespace hearth::power
