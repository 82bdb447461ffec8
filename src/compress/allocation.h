// Shares out bits: which type each matrix gets, so that a model of some size diverges least, or one that diverges so much is smallest.
//
// Divergences of single matrices are taken to add up. Of each matrix only the choices on the lower convex hull of (bytes, divergence)
// are used; steps along all hulls are taken in the order of what they gain per byte, which is the solution by Lagrange multipliers
// (Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers"), then what is left is filled up.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/type.h"

namespace hearth::compress {

struct TypeChoice {
  const TypeInfo* type = nullptr;
  uint64_t bytes = 0;
  double divergence = 0;  // nats, of the model with this matrix alone changed
  bool stays = false;     // as the source has it: nothing is changed
};

struct MatrixChoices {
  std::string name;
  std::vector<TypeChoice> choices;  // at least one
};

// The index of a choice for each matrix.
using Allocation = std::vector<size_t>;

struct AllocationSum {
  uint64_t bytes = 0;
  double divergence = 0;
};
AllocationSum sum_of(std::span<const MatrixChoices> matrices, const Allocation& allocation);

// The least divergence at `bytes` or less; nothing if not even the smallest choices fit.
std::optional<Allocation> allocate_bytes(std::span<const MatrixChoices> matrices, uint64_t bytes);
// The fewest bytes at `divergence` or less; nothing if not even the best choices reach it.
std::optional<Allocation> allocate_divergence(std::span<const MatrixChoices> matrices, double divergence);

}  // namespace hearth::compress
