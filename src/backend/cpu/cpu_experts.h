// Scratch of a step through a mixture of experts; keeps its size between steps.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/cpu_backend.h"

namespace hearth::cpu {

// One of the experts chosen for a row.
struct Choice {
  int row, expert;
  float weight;
};

struct ExpertScratch {
  Scratch<float> logits, inputs, results;
  Scratch<std::byte> codes;
  std::vector<uint64_t> order;    // of one row's experts
  std::vector<Choice> choices;    // [row][rank]
  std::vector<int> place;         // of each choice among the rows sorted by expert
  std::vector<int> first;         // of each expert's rows among those, and one more for the end
  std::vector<int> rows_of;       // how many each has
  std::vector<int> needed;        // experts that have any
  std::vector<Operand> operands;  // of each expert that was chosen: its rows, then its hidden rows
  std::vector<GatedProduct> gated;
  std::vector<Product> down;
};

}  // namespace hearth::cpu
