#include "compress/sensitivity.h"

#include <algorithm>
#include <numeric>

#include "compress/calibration.h"
#include "compress/divergence.h"
#include "compress/rounding.h"

namespace hearth::compress {
namespace {

// Rows of a matrix on which types are compared with each other.
constexpr int64_t kSampledRows = 64;
// Pieces of the calibration's text: for comparing types fewer than for rounding will do.
constexpr size_t kPieces = 16;
// Rows of logits that are computed at once.
constexpr size_t kLogitRows = 32;

// A stream that is what the source has but for one matrix.
struct Changed {
  size_t matrix = 0, choice = 0;
  std::vector<float> stream;
  EncodedTensors ends;  // where that is what was changed
};

// Of some rows of log-probabilities: the sum of their divergences.
double divergence_of_rows(std::span<const float> ours, std::span<const float> reference, size_t rows,
                          ThreadPool& pool) {
  const size_t n_vocab = ours.size() / rows;
  std::vector<double> each(rows);
  pool.parallel_for(static_cast<int64_t>(rows), 1, [&](int64_t begin, int64_t end, int) {
    for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r)
      each[r] = divergence_of_row(ours.subspan(r * n_vocab, n_vocab), reference.subspan(r * n_vocab, n_vocab));
  });
  return std::accumulate(each.begin(), each.end(), 0.0);
}

class Measurement {
 public:
  Measurement(const SourceModel& source, std::span<const PlannedTensor* const> matrices,
              std::vector<MatrixChoices> choices, Backend& backend, const QuantizeOptions& options)
      : source_(source),
        matrices_(matrices),
        backend_(backend),
        options_(options),
        pool_(options.n_threads),
        piece_(options.judged.front()),
        positions_(static_cast<int>(piece_.size())),
        out_(std::move(choices)),
        errors_(out_.size()) {
    for (const auto& chunk : options.calibration) positions_ = std::max(positions_, static_cast<int>(chunk.size()));
  }

  Result<std::vector<MatrixChoices>> run() {
    LayerRunner as_it_is = TRY(source_.ends({}, positions_, backend_));
    calibration_ =
        as_it_is.embed(std::span(options_.calibration).first(std::min(options_.calibration.size(), kPieces)));
    reference_ = as_it_is.embed(std::span(&piece_, 1)).front();
    TRY(ends());
    for (int i = 0; i < source_.n_layers(); ++i) TRY(layer(i));
    TRY(compare());
    scale();
    return std::move(out_);
  }

 private:
  // Embedding and head, which may be one.
  [[nodiscard]] bool is_end(size_t matrix) const { return layer_of(matrices_[matrix]->name) < 0; }

  // Every type of them, and what the embedding's begins the stream with.
  Result<void> ends() {
    for (size_t m = 0; m < matrices_.size(); ++m) {
      if (!is_end(m)) continue;
      const PlannedTensor& tensor = *matrices_[m];
      const ErrorFeedback feedback = &tensor == &source_.head()
                                         ? TRY(calibrate_head(source_, calibration_, options_.damping, backend_))
                                         : ErrorFeedback::none(tensor.matrix.cols);
      for (size_t c = 0; c < out_[m].choices.size(); ++c) {
        const TypeChoice& choice = out_[m].choices[c];
        if (choice.stays) continue;
        Changed changed{.matrix = m, .choice = c, .stream = {}, .ends = {}};
        RoundedTensor rounded = TRY(round_tensor(tensor, *choice.type, feedback, backend_, pool_));
        changed.ends[tensor.name] = std::move(rounded.tensor);
        LayerRunner runner = TRY(source_.ends(changed.ends, positions_, backend_));
        changed.stream = runner.embed(std::span(&piece_, 1)).front();
        changed_.push_back(std::move(changed));
      }
    }
    return {};
  }

  // Of a layer's matrix: the first type on the stream, and the errors of all.
  Result<void> matrix(size_t m, const ErrorFeedback& feedback) {
    const PlannedTensor& tensor = *matrices_[m];
    const std::vector<TypeChoice>& choices = out_[m].choices;
    for (const TypeChoice& choice : choices)
      errors_[m].push_back(choice.stays ? 0 : TRY(sampled_error(tensor, *choice.type, feedback)));
    RoundedTensor rounded = TRY(round_tensor(tensor, *choices.front().type, feedback, backend_, pool_));
    // As floats, so that its weights' error alone is measured, not that of activations in 8 bits.
    EncodedTensors replaced;
    replaced[tensor.name] = as_floats(rounded.tensor);
    LayerRunner runner = TRY(source_.layer(layer_of(tensor.name), replaced, positions_, backend_));
    Changed changed{.matrix = m, .choice = 0, .stream = reference_, .ends = {}};
    TRY(runner.run(changed.stream));
    changed_.push_back(std::move(changed));
    return {};
  }
  Result<double> sampled_error(const PlannedTensor& tensor, const TypeInfo& type, const ErrorFeedback& feedback) {
    const int64_t n = std::min(tensor.matrix.rows, kSampledRows);
    std::vector<float> weights;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = i * tensor.matrix.rows / n;
      const std::vector<float> one = SourceModel::floats(tensor, 0, row, row + 1);
      weights.insert(weights.end(), one.begin(), one.end());
    }
    const Rounded rounded = TRY(round_matrix(type, weights, n, feedback, backend_, pool_));
    return rounded.power > 0 ? rounded.error / rounded.power : 0;
  }

  Result<void> layer(int index) {
    if (options_.progress && !options_.progress("measuring", static_cast<double>(index) / (source_.n_layers() + 1)))
      return fail(Code::kCancelled, "cancelled");
    const size_t before = changed_.size();
    const bool any = std::ranges::any_of(matrices_, [&](auto* tensor) { return layer_of(tensor->name) == index; });
    if (any) {
      const FeedbackByName feedback = TRY(calibrate_layer(source_, index, calibration_, options_.damping, backend_));
      for (size_t m = 0; m < matrices_.size(); ++m)
        if (layer_of(matrices_[m]->name) == index) TRY(matrix(m, *feedback.at(matrices_[m]->name)));
    }
    LayerRunner as_it_is = TRY(source_.layer(index, {}, positions_, backend_));
    for (size_t i = 0; i < before; ++i) TRY(as_it_is.run(changed_[i].stream));
    for (auto& stream : calibration_) TRY(as_it_is.run(stream));
    return as_it_is.run(reference_);
  }

  // The divergence of each stream from the source's, over the second half of the piece.
  Result<void> compare() {
    if (options_.progress && !options_.progress("measuring", 1)) return fail(Code::kCancelled, "cancelled");
    LayerRunner as_it_is = TRY(source_.ends({}, positions_, backend_));
    const size_t half = piece_.size() / 2;
    std::vector<double> sums(changed_.size());
    for (size_t begin = half; begin < piece_.size(); begin += kLogitRows) {
      const size_t end = std::min(begin + kLogitRows, piece_.size());
      const std::vector<float> expected = as_it_is.log_probabilities(reference_, begin, end, pool_);
      for (size_t i = 0; i < changed_.size(); ++i) {
        if (!changed_[i].ends.empty()) continue;
        sums[i] += divergence_of_rows(as_it_is.log_probabilities(changed_[i].stream, begin, end, pool_), expected,
                                      end - begin, pool_);
      }
    }
    for (size_t i = 0; i < changed_.size(); ++i) {
      if (changed_[i].ends.empty()) continue;
      LayerRunner other = TRY(source_.ends(changed_[i].ends, positions_, backend_));
      for (size_t begin = half; begin < piece_.size(); begin += kLogitRows) {
        const size_t end = std::min(begin + kLogitRows, piece_.size());
        sums[i] += divergence_of_rows(other.log_probabilities(changed_[i].stream, begin, end, pool_),
                                      as_it_is.log_probabilities(reference_, begin, end, pool_), end - begin, pool_);
      }
    }
    // Of predictions that hardly differ the sums are noise, and may be below zero.
    for (size_t i = 0; i < changed_.size(); ++i)
      out_[changed_[i].matrix].choices[changed_[i].choice].divergence =
          std::max(0.0, sums[i] / static_cast<double>(piece_.size() - half));
    return {};
  }

  // The types that were not measured.
  void scale() {
    for (size_t m = 0; m < matrices_.size(); ++m) {
      if (is_end(m)) continue;
      std::vector<TypeChoice>& choices = out_[m].choices;
      const double measured = choices.front().divergence, error = errors_[m].front();
      for (size_t c = 1; c < choices.size(); ++c)
        choices[c].divergence = error > 0 ? measured * errors_[m][c] / error : 0;
    }
  }

  const SourceModel& source_;
  std::span<const PlannedTensor* const> matrices_;
  Backend& backend_;
  const QuantizeOptions& options_;
  ThreadPool pool_;
  const std::vector<Token>& piece_;
  int positions_;
  Streams calibration_;
  std::vector<float> reference_;
  std::vector<Changed> changed_;
  std::vector<MatrixChoices> out_;
  std::vector<std::vector<double>> errors_;  // of each matrix's choices, on the sampled rows
};

}  // namespace

Result<std::vector<MatrixChoices>> choices_of(std::span<const PlannedTensor* const> matrices,
                                              std::span<const TypeInfo* const> types) {
  std::vector<MatrixChoices> out;
  for (const PlannedTensor* matrix : matrices) {
    MatrixChoices choices{.name = matrix->name, .choices = {}};
    for (const TypeInfo* type : types)
      if (const uint64_t bytes = SourceModel::bytes_as(*matrix, *type))
        choices.choices.push_back({.type = type, .bytes = bytes});
    if (choices.choices.empty())
      return fail(Code::kInvalidArgument,
                  "tensor '{}' has rows of {} elements, which none of the types of a mix can hold: leave it as it is "
                  "(--keep {})",
                  matrix->name, matrix->shape[0], matrix->name);
    if (const TypeInfo& own = info(matrix->matrix.type); !own.panel.is_float())
      choices.choices.push_back({.type = &own, .bytes = SourceModel::bytes_as(*matrix, own), .stays = true});
    out.push_back(std::move(choices));
  }
  return out;
}

Result<std::vector<MatrixChoices>> measure(const SourceModel& source, std::span<const PlannedTensor* const> matrices,
                                           std::span<const TypeInfo* const> types, Backend& backend,
                                           const QuantizeOptions& options) {
  std::vector<MatrixChoices> choices = TRY(choices_of(matrices, types));
  if (options.calibration.empty() || options.judged.empty())
    return fail(Code::kInvalidArgument,
                "a mix is chosen by measuring: it needs a text for calibration and for judging");
  return Measurement(source, matrices, std::move(choices), backend, options).run();
}

}  // namespace hearth::compress
