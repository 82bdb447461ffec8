#include "cluster/stage.h"

#include <tuple>

namespace hearth::cluster {

bool same(const StageOptions& a, const StageOptions& b) {
  const auto parts = [](const StageOptions& o) {
    return std::tuple(o.layers.first, o.layers.end, o.context, o.rows_max, o.sequences.kv_type,
                      o.sequences.positions_max, o.sequences.sequences_max);
  };
  return parts(a) == parts(b);
}

Result<std::unique_ptr<Stage>> Stage::create(const Checkpoint& checkpoint, Backend& backend,
                                             const StageOptions& options) {
  std::unique_ptr<Stage> stage(new Stage(backend, options));
  if (options.layers.first >= options.layers.end || options.rows_max < 1 || options.sequences.sequences_max < 1)
    return fail(Code::kInvalidArgument, "a stage of layers {} to {} for {} rows of {} sequences", options.layers.first,
                options.layers.end, options.rows_max, options.sequences.sequences_max);
  stage->decoder_ = TRY(Decoder::load(
      checkpoint, backend,
      {.layers = options.layers, .context = options.context, .rows_max = options.rows_max, .progress = {}}));
  TRY(stage->reset());
  return stage;
}

Result<std::chrono::microseconds> Stage::warm_up() {
  const int n_rows = std::min({kWarmUpRows, options_.rows_max, options_.context, options_.sequences.positions_max});
  std::vector<float> hidden(static_cast<size_t>(n_rows) * static_cast<size_t>(decoder_->config().d_model), 1.0f);
  const SequenceOp open{.kind = SequenceOp::Kind::kOpen, .sequence = 0};
  const StepRows rows{.sequence = 0, .position = 0, .count = n_rows};
  const auto begin = std::chrono::steady_clock::now();
  TRY(run({&open, 1}, {&rows, 1}, hidden));
  const auto took = std::chrono::steady_clock::now() - begin;
  TRY(reset());
  return std::chrono::duration_cast<std::chrono::microseconds>(took);
}

Result<void> Stage::reset() {
  store_.reset();
  store_ = TRY(SequenceStore::create(backend_, decoder_->config(), options_.sequences));
  return {};
}

Result<void> Stage::run(std::span<const SequenceOp> ops, std::span<const StepRows> rows, std::span<float> hidden) {
  for (const SequenceOp& op : ops) TRY(store_->apply(op));
  if (rows.empty()) return {};
  rows_.clear();
  int n_rows = 0;
  for (const StepRows& part : rows) {
    const bool there = store_->is_open(part.sequence);
    const int length = there ? store_->length(part.sequence) : 0;
    if (!there || part.position < length || part.count < 1 || part.position > options_.context - part.count ||
        part.count > decoder_->rows_max() - n_rows)
      return fail(Code::kInvalidArgument, "{} rows at position {} of sequence {}, which has {}; at most {} of {} rows",
                  part.count, part.position, part.sequence, length, options_.context, decoder_->rows_max());
    TRY(store_->reserve(part.sequence, part.position - length + part.count));
    n_rows += part.count;
  }
  n_rows = 0;
  for (const StepRows& part : rows) {
    rows_.push_back(store_->rows(part.sequence, n_rows, part.count));
    rows_.back().position = part.position;
    n_rows += part.count;
  }
  if (hidden.size() != static_cast<size_t>(n_rows) * static_cast<size_t>(decoder_->config().d_model))
    return fail(Code::kInvalidArgument, "{} values for {} rows of {}", hidden.size(), n_rows,
                decoder_->config().d_model);
  tokens_.assign(static_cast<size_t>(n_rows), 0);  // layers do not look at them
  decoder_->run_layers({.tokens = tokens_, .sequences = rows_}, *store_, hidden);
  return {};
}

}  // namespace hearth::cluster
