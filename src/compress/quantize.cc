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
    TRY(embed());
    for (int i = 0; i < source_.n_layers(); ++i) TRY(layer(i));
    TRY(head());
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

  // The streams begin as the source's embedding has them: where it is rounded, that is done with the head it is tied to.
  Result<void> embed() {
    const PlannedTensor& embedding = *source_.find("token_embd.weight");
    if (&embedding != &source_.head()) TRY(round(embedding, ErrorFeedback::none(embedding.matrix.cols)));
    LayerRunner ends = TRY(source_.ends(out_.tensors, positions_, backend_));
    auto embedded = [&](const Chunks& chunks) {
      Streams streams;
      for (const auto& chunk : chunks) {
        streams.emplace_back(chunk.size() * static_cast<size_t>(source_.d_model()));
        ends.decoder().embed(chunk, streams.back());
      }
      return streams;
    };
    calibration_ = embedded(options_.calibration);
    judged_ = embedded(options_.judged);
    if (out_.tensors.empty()) {
      reference_ = judged_;
    } else {
      LayerRunner as_it_is = TRY(source_.ends({}, positions_, backend_));
      for (const auto& chunk : options_.judged) {
        reference_.emplace_back(chunk.size() * static_cast<size_t>(source_.d_model()));
        as_it_is.decoder().embed(chunk, reference_.back());
      }
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
    TRY(tell("quantising", static_cast<double>(index) / (source_.n_layers() + 2)));
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

  Result<void> head() {
    TRY(tell("quantising the head", static_cast<double>(source_.n_layers()) / (source_.n_layers() + 2)));
    const PlannedTensor& head = source_.head();
    if (!plan_.contains(head.name)) return {};
    if (calibration_.empty()) return round(head, ErrorFeedback::none(head.matrix.cols));
    Moments moments = TRY(Moments::create(backend_, head.matrix.cols));
    LayerRunner ends = TRY(source_.ends({}, positions_, backend_));
    for (const auto& stream : calibration_) {
      std::vector<int32_t> rows(stream.size() / static_cast<size_t>(source_.d_model()));
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
      std::vector<float> hidden(stream.size());
      ends.decoder().finish(stream);
      ends.decoder().hidden(rows, hidden);
      TRY(moments.add(hidden));
    }
    return round(head, TRY(ErrorFeedback::create(backend_, moments.values(), moments.k(), options_.damping)));
  }

  // The second half of each chunk counts, as for perplexity: what comes before is context.
  Result<void> judge() {
    if (judged_.empty()) return {};
    LayerRunner ours = TRY(source_.ends(out_.tensors, positions_, backend_));
    LayerRunner reference = TRY(source_.ends({}, positions_, backend_));
    const auto n_vocab = static_cast<size_t>(source_.n_vocab());
    std::vector<float> logits(kLogitRows * n_vocab), expected(logits.size());
    double loss = 0, source_loss = 0;
    for (size_t i = 0; i < judged_.size(); ++i) {
      TRY(tell("comparing with the source", 1.0));
      const size_t length = options_.judged[i].size();
      ours.decoder().finish(judged_[i]);
      reference.decoder().finish(reference_[i]);
      for (size_t row = length / 2; row + 1 < length; row += kLogitRows) {
        std::vector<int32_t> rows;
        for (size_t r = row; r + 1 < length && r < row + kLogitRows; ++r) rows.push_back(static_cast<int32_t>(r));
        ours.decoder().logits(rows, std::span(logits).first(rows.size() * n_vocab));
        reference.decoder().logits(rows, std::span(expected).first(rows.size() * n_vocab));
        for (size_t r = 0; r < rows.size(); ++r) {
          const auto a = std::span(logits).subspan(r * n_vocab, n_vocab);
          const auto b = std::span(expected).subspan(r * n_vocab, n_vocab);
          log_softmax(a);
          log_softmax(b);
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
