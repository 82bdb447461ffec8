// Whether guessing pays: a step may run guessed tokens ("drafts") behind the newest one of a sequence, and keep those that the
// sampler picks as well. Answers are the same with and without (Leviathan et al. 2023, with the draw of a position fixed); how many to
// run is decided here, by pure functions of what was measured.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hearth {

inline constexpr int kDraftMax = 15;  // tokens of one draft

// Prompt and answer so far; earlier answers to the same tenant; what a smaller model says; what the model says early.
enum class DraftSource : uint8_t { kText, kAnswers, kModel, kExit };
inline constexpr std::array kDraftSources{DraftSource::kText, DraftSource::kAnswers, DraftSource::kModel,
                                          DraftSource::kExit};
std::string_view name(DraftSource source);

// How often drafted tokens came true, by source and by how many tokens before them speak for them. The newest count most.
class Acceptance {
 public:
  void add(DraftSource source, int match, bool came_true);
  // That a token will; `expected` is what to think before anything was counted.
  [[nodiscard]] double chance(DraftSource source, int match, double expected) const;
  // What to expect of a match of that length, with nothing counted anywhere.
  static double expected(int match);

 private:
  static constexpr size_t kLengths = 8;  // 1, 2, 3, 4, to 6, to 9, to 16, more
  static size_t length_class(int match);
  struct Count {
    float true_ones = 0, all = 0;
  };
  std::array<std::array<Count, kLengths>, kDraftSources.size()> counts_{};
};

// What steps of so many rows take here.
class RowCosts {
 public:
  static constexpr int kRowsMax = 48;
  // A step of generating sequences alone. Other work of the machine can only make it longer, so the short ones count.
  void add(int rows, double seconds);
  // Between what was measured, a straight line; 0 as long as nothing was. No more than of more rows; and what was measured once or twice
  // only may have been a bad moment, so that does not count against it. `rows` 1 to kRowsMax.
  [[nodiscard]] double seconds(int rows) const;

 private:
  struct Cost {
    double seconds = 0;
    uint64_t step = 0;  // when it was measured last
    int times = 0;
  };
  // It was measured so often, and not too long ago.
  [[nodiscard]] bool known(int rows, int times = 1) const;
  [[nodiscard]] double on_the_line(int rows, int times) const;
  std::array<Cost, kRowsMax + 1> costs_{};
  uint64_t steps_ = 0;
};

// For a guess of a model that holds it to be so likely, in the place of a match's length: at least 2.
int match_of(double probability);

// How many of a sequence's tokens to guess, where a guess takes time itself: for the most tokens per second of a step that runs it
// alone. chances: as in choose_drafts.
struct GuessPlan {
  int count = 0;
  double rate = 0;  // tokens per second then; of none, a single row's
};
GuessPlan plan_guesses(std::span<const double> chances, double guess_seconds, const RowCosts& costs);

// How many drafted tokens of each sequence to run in a step that runs a row for each anyway, so that the most tokens per second are to
// be expected; but nobody gets a tenth fewer than without, for the sake of another's. chances[i]: of sequence i's tokens one after the other, each if those before it came true. No more than `rows_max`
// rows in all. Writes counts, one per sequence. Cost: rows times sequences.
void choose_drafts(std::span<const std::span<const double>> chances, const RowCosts& costs, int rows_max,
                   std::span<int> counts);

}  // namespace hearth
