// Products of float matrices on a backend.
#pragma once

#include <span>

#include "backend/backend.h"

namespace hearth::compress {

// out += left * right^T, with right [rows][left.cols] on the host.
inline Result<void> add_product(Backend& backend, Rows left, std::span<const float> right, int64_t rows, Rows out) {
  const auto weight = TRY(backend.load({.type = Type::kF32,
                                        .rows = rows,
                                        .cols = left.cols,
                                        .slices = 1,
                                        .data = {std::as_bytes(right)},
                                        .panels = false,
                                        .consumed = {}}));
  const LinearPart part{weight.get(), nullptr, out, true};
  backend.linear({left}, {&part, 1});
  return {};
}

}  // namespace hearth::compress
