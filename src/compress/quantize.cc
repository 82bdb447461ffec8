#include "compress/quantize.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "compress/calibration.h"
#include "compress/rounding.h"

namespace hearth::compress {
namespace {

constexpr int64_t kRowsAtOnce = 4096;
// Rows of logits that are compared at once.
constexpr size_t kLogitRows = 4;

class Quantizer {
 public:
  Quantizer(const SourceModel& source, const TypePlan& plan, Backend& backend, const QuantizeOptions& options)
      : source_(source), plan_(plan), backend_(backend), options_(options), pool_(options.n_threads) {
    for (const Chunks* chunks : {&options.calibration, &options.judged})
      for (const auto& chunk : *chunks) positions_ = std::max(positions_, static_cast<int>(chunk.size()));
  }

  Result<Quantized> run() {
    TRY(tell("quantising the head", 0));
    TRY(ends());
    for (int i = 0; i < source_.n_layers(); ++i) TRY(layer(i));
    for (const PlannedTensor& tensor : source_.tensors())
      if (!out_.tensors.contains(tensor.name)) out_.tensors[tensor.name] = SourceModel::encoded(tensor);
    TRY(judge());
    return std::move(out_);
  }

 private:
  Result<void> tell(std::string_view what, double share) const {
    if (options_.progress && !options_.progress(what, share)) return fail(Code::kCancelled, "cancelled");
    return {};
  }

  // The head goes first, as it may be the embedding, too, with which the streams begin.
  Result<void> ends() {
    LayerRunner as_it_is = TRY(source_.ends({}, positions_, backend_));
    calibration_ = as_it_is.embed(options_.calibration);
    reference_ = as_it_is.embed(options_.judged);
    const PlannedTensor &head = source_.head(), &embedding = *source_.find("token_embd.weight");
    if (plan_.contains(head.name)) {
      const ErrorFeedback feedback = TRY(calibrate_head(source_, calibration_, options_.damping, backend_));
      TRY(round(head, feedback));
    }
    if (&embedding != &head) TRY(round(embedding, ErrorFeedback::none(embedding.matrix.cols)));
    if (out_.tensors.contains(embedding.name)) {
      LayerRunner rounded = TRY(source_.ends(out_.tensors, positions_, backend_));
      calibration_ = rounded.embed(options_.calibration);
      judged_ = rounded.embed(options_.judged);
    } else {
      judged_ = reference_;
    }
    return {};
  }

  Result<void> round(const PlannedTensor& matrix, const ErrorFeedback& feedback) {
    const auto type = plan_.find(matrix.name);
    if (type == plan_.end()) return {};
    RoundedTensor rounded = TRY(round_tensor(matrix, *type->second, feedback, backend_, pool_));
    out_.outcomes.push_back({.name = matrix.name,
                             .type = type->second->type,
                             .rows = matrix.matrix.rows * matrix.matrix.slices,
                             .cols = matrix.matrix.cols,
                             .bytes = rounded.tensor.data.size(),
                             .relative_error = rounded.power > 0 ? rounded.error / rounded.power : 0});
    out_.tensors[matrix.name] = std::move(rounded.tensor);
    return {};
  }

  Result<void> layer(int index) {
    TRY(tell("quantising", static_cast<double>(index + 1) / (source_.n_layers() + 2)));
    const bool calibrated = !calibration_.empty();
    FeedbackByName feedback;
    if (calibrated) feedback = TRY(calibrate_layer(source_, index, calibration_, options_.damping, backend_));
    for (const PlannedTensor& tensor : source_.tensors()) {
      if (layer_of(tensor.name) != index || tensor.matrix.data.empty()) continue;
      TRY(round(tensor, calibrated ? *feedback.at(tensor.name) : ErrorFeedback::none(tensor.matrix.cols)));
    }
    feedback.clear();
    if (!calibrated && judged_.empty()) return {};
    LayerRunner rounded = TRY(source_.layer(index, out_.tensors, positions_, backend_));
    for (auto& stream : calibration_) TRY(rounded.run(stream));
    for (auto& stream : judged_) TRY(rounded.run(stream));
    if (judged_.empty()) return {};
    LayerRunner as_it_is = TRY(source_.layer(index, {}, positions_, backend_));
    for (auto& stream : reference_) TRY(as_it_is.run(stream));
    return {};
  }

  // The second half of each chunk counts, as for perplexity: what comes before is context.
  Result<void> judge() {
    if (judged_.empty()) return {};
    LayerRunner ours = TRY(source_.ends(out_.tensors, positions_, backend_));
    LayerRunner reference = TRY(source_.ends({}, positions_, backend_));
    const auto n_vocab = static_cast<size_t>(source_.n_vocab());
    double loss = 0, source_loss = 0;
    for (size_t i = 0; i < judged_.size(); ++i) {
      TRY(tell("comparing with the source", 1.0));
      const size_t length = options_.judged[i].size();
      for (size_t row = length / 2; row + 1 < length; row += kLogitRows) {
        const size_t end = std::min(row + kLogitRows, length - 1);
        const std::vector<float> logits = ours.log_probabilities(judged_[i], row, end, pool_);
        const std::vector<float> expected = reference.log_probabilities(reference_[i], row, end, pool_);
        for (size_t r = 0; r < end - row; ++r) {
          const auto a = std::span(logits).subspan(r * n_vocab, n_vocab);
          const auto b = std::span(expected).subspan(r * n_vocab, n_vocab);
          out_.divergence.add(a, b);
          const auto next = static_cast<size_t>(options_.judged[i][row + r + 1]);
          loss -= a[next], source_loss -= b[next];
        }
      }
    }
    const auto n = static_cast<double>(out_.divergence.rows());
    out_.perplexity = std::exp(loss / n), out_.source_perplexity = std::exp(source_loss / n);
    return {};
  }

  const SourceModel& source_;
  const TypePlan& plan_;
  Backend& backend_;
  const QuantizeOptions& options_;
  ThreadPool pool_;
  int positions_ = 1;
  Streams calibration_, judged_, reference_;  // of the rounded model twice, then of the source
  Quantized out_;
};

}  // namespace

Result<RoundedTensor> round_tensor(const PlannedTensor& matrix, const TypeInfo& type, const ErrorFeedback& feedback,
                                   Backend& backend, ThreadPool& pool) {
  const WeightSource& source = matrix.matrix;
  RoundedTensor out;
  out.tensor = {.type = type.type, .shape = matrix.shape, .n_dims = matrix.n_dims, .data = {}};
  for (size_t slice = 0; slice < source.data.size(); ++slice) {
    for (int64_t row = 0; row < source.rows; row += kRowsAtOnce) {
      const int64_t end = std::min(row + kRowsAtOnce, source.rows);
      const std::vector<float> weights = SourceModel::floats(matrix, slice, row, end);
      if (type.panel.is_float()) {
        std::vector<std::byte> blocks(*row_bytes(type, weights.size()));
        type.encode(weights.data(), blocks.data(), static_cast<int64_t>(weights.size()));
        out.tensor.data.insert(out.tensor.data.end(), blocks.begin(), blocks.end());
        continue;
      }
      const Rounded rounded = TRY(round_matrix(type, weights, end - row, feedback, backend, pool));
      out.tensor.data.insert(out.tensor.data.end(), rounded.blocks.begin(), rounded.blocks.end());
      out.error += rounded.error;
      out.power += rounded.power;
    }
  }
  return out;
}

Result<void> check(const SourceModel& source, const TypePlan& plan) {
  for (const auto& [name, type] : plan) {
    const PlannedTensor* tensor = source.find(name);
    CHECK(tensor);
    if (!row_bytes(*type, tensor->shape[0]))
      return fail(Code::kInvalidArgument,
                  "tensor '{}' has rows of {} elements and {} needs a multiple of {}: use another type (--type i4, "
                  "q4_0, ...), or leave this tensor as it is (--keep {})",
                  name, tensor->shape[0], type->name, type->block, name);
  }
  return {};
}

Result<Quantized> quantize(const SourceModel& source, const TypePlan& plan, Backend& backend,
                           const QuantizeOptions& options) {
  TRY(check(source, plan));
  return Quantizer(source, plan, backend, options).run();
}

}  // namespace hearth::compress
