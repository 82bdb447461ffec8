// From a matrix of floats to the blocks of a type, with scales searched and errors fed back.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"
#include "compress/error_feedback.h"
#include "tensor/type.h"

namespace hearth::compress {

struct Rounded {
  std::vector<std::byte> blocks;  // rows of row_bytes(type, k)
  double error = 0;               // sum over rows of (w - q) H (w - q)^T
  double power = 0;               // sum over rows of w H w^T
};

// `weights` [rows][k], `feedback` of their inputs; `type` is quantised and k a multiple of its block. The result depends on
// nothing else, not on the number of threads either. One thread calls; memory is about 10 bytes per weight.
Result<Rounded> round_matrix(const TypeInfo& type, std::span<const float> weights, int64_t rows,
                             const ErrorFeedback& feedback, Backend& backend, ThreadPool& pool);

}  // namespace hearth::compress
