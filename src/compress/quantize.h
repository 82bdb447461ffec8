// Quantises a model layer by layer: each layer's matrices are rounded for the inputs that the layers before it, already rounded,
// give them on a text.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "compress/divergence.h"
#include "compress/error_feedback.h"
#include "compress/source_model.h"

namespace hearth::compress {

// The type of each matrix by name; those that are not named stay as the source has them.
using TypePlan = std::map<std::string, const TypeInfo*, std::less<>>;

struct QuantizeOptions {
  Chunks calibration;  // empty: every input counts alike, and no error is fed back
  Chunks judged;       // text on which source and result are compared; empty: they are not
  float damping = 0.01f;
  int n_threads = 1;
  std::function<bool(std::string_view what, double share)> progress;  // false cancels; may be empty
};

// What became of one matrix.
struct TensorOutcome {
  std::string name;
  Type type = Type::kF32;
  int64_t rows = 0, cols = 0;  // of all slices
  uint64_t bytes = 0;
  double relative_error = 0;  // of its output on the calibration text: sum of squares over the sum of squares
};

struct Quantized {
  EncodedTensors tensors;  // of the whole model
  std::vector<TensorOutcome> outcomes;
  Divergence divergence;
  double perplexity = 0, source_perplexity = 0;  // on the judged text; 0 without one
};

// Nothing is guessed: a matrix whose rows its type cannot hold is an error that names it. Memory: the result, one layer in floats, and
// the activations of the text. One thread calls, n_threads work; the result does not depend on their number.
Result<Quantized> quantize(const SourceModel& source, const TypePlan& plan, Backend& backend,
                           const QuantizeOptions& options);

// kInvalidArgument naming the first matrix that its type cannot hold.
Result<void> check(const SourceModel& source, const TypePlan& plan);

// One slice of a matrix after the other, some rows at a time, with one feedback.
struct RoundedTensor {
  EncodedTensor tensor;
  double error = 0, power = 0;
};
Result<RoundedTensor> round_tensor(const PlannedTensor& matrix, const TypeInfo& type, const ErrorFeedback& feedback,
                                   Backend& backend, ThreadPool& pool);

}  // namespace hearth::compress
