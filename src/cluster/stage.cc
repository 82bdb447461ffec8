#include "cluster/stage.h"

#include <numeric>
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

Result<std::unique_ptr<HeadStage>> HeadStage::create(const Checkpoint& checkpoint, Backend& backend) {
  auto decoder =
      TRY(Decoder::load(checkpoint, backend, {.layers = LayerRange{0, 0}, .rows_max = kHeadRows, .progress = {}}));
  return std::unique_ptr<HeadStage>(new HeadStage(std::move(decoder)));
}

Result<HeadAnswer> HeadStage::run(const HeadRows& rows) {
  const DecoderConfig& config = decoder_->config();
  const auto d_model = static_cast<size_t>(config.d_model), n_vocab = static_cast<size_t>(config.n_vocab);
  const size_t n_rows = rows.hidden.size() / d_model;
  const size_t rows_max = std::min(head_rows_max(rows.count, n_vocab), static_cast<size_t>(decoder_->rows_max()));
  if (n_rows < 1 || n_rows > rows_max || n_rows * d_model != rows.hidden.size() || rows.count > n_vocab)
    return fail(Code::kInvalidArgument, "{} values and {} of {} tokens; rows are {} values, at most {} at once",
                rows.hidden.size(), rows.count, n_vocab, d_model, rows_max);
  wanted_.resize(n_rows);
  std::iota(wanted_.begin(), wanted_.end(), 0);
  decoder_->finish(rows.hidden);
  HeadAnswer answer;
  answer.logits.resize(n_rows * (rows.count > 0 ? rows.count : n_vocab));
  if (rows.count == 0) {
    decoder_->logits(wanted_, answer.logits);
    return answer;
  }
  answer.tokens.resize(answer.logits.size());
  decoder_->most_likely(wanted_, static_cast<int>(rows.count), answer.tokens, answer.logits);
  return answer;
}

Result<std::chrono::microseconds> HeadStage::warm_up() {
  const HeadRows row{.count = 1, .hidden = std::vector<float>(static_cast<size_t>(decoder_->config().d_model), 1.0f)};
  TRY(run(row));
  const auto begin = std::chrono::steady_clock::now();
  TRY(run(row));
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
}

}  // namespace hearth::cluster
