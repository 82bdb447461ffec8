// Rows that leave before the last layer. What the layers above keep of them, their keys and values, is computed from the stream that
// they left with (Schuster et al. 2022, CALM, section 3), so that every position stays a function of the tokens up to it alone.
//
// Within a step the rows that go on lie first, those that left behind them: place_[row] says where a row of the batch is.
#include <algorithm>
#include <limits>

#include "base/check.h"
#include "model/decoder.h"
#include "model/exits.h"

namespace hearth {

// The rows [first, first + n) of the exits' buffer of final hidden states, from the stream at those places.
void Decoder::exit_hidden(const ExitHead& head, int first, int n) {
  const int64_t d = config_.d_model;
  const LinearInput in{.x = {scratch_.get(), areas_.x * rows_max_ + first * d, n, d, d},
                       .norm = output_norm_.get(),
                       .norm_eps = config_.norm_eps};
  const Rows out{exits_->hidden_.get(), first * d, n, d, d};
  backend_.rms_norm(in.x, *in.norm, in.norm_eps, out);
  const LinearPart part{head.change.get(), head.bias.get(), out, true};
  backend_.linear(in, {&part, 1});
}

void Decoder::begin_exits() {
  place_.resize(static_cast<size_t>(n_rows_));
  row_at_.resize(place_.size());
  for (size_t i = 0; i < place_.size(); ++i) place_[i] = row_at_[i] = static_cast<int32_t>(i);
  n_running_ = n_rows_;
}

// Which of the rows that still run leave after so many layers; true if any does. Then `running_` and `skipped_` are up to date.
bool Decoder::take_exits(int layers, const Batch& batch) {
  const auto leaves_here = [&](const ExitPolicy& policy) { return policy.layers == layers && layers > 0; };
  if (n_running_ == 0 || std::ranges::none_of(batch.exits, leaves_here)) return false;
  const ExitHead* head = exits_->after(layers);
  CHECK(head && head->doubt);
  const int64_t d = config_.d_model;
  const Rows x{scratch_.get(), areas_.x * rows_max_, n_running_, d, d};
  const LinearPart part{head->doubt.get(), head->doubt_bias.get(), {exits_->doubts_.get(), 0, n_running_, 1, 1}, false};
  backend_.linear({x, output_norm_.get(), config_.norm_eps}, {&part, 1});
  doubts_.resize(static_cast<size_t>(n_running_));
  backend_.download(*exits_->doubts_, 0, std::as_writable_bytes(std::span(doubts_)));
  leaving_.clear();
  int kept = 0;
  size_t sequence = 0;
  for (int at = 0; at < n_running_; ++at) {
    const int32_t row = row_at_[static_cast<size_t>(at)];
    while (row >= batch.sequences[sequence].first_row + batch.sequences[sequence].count) ++sequence;
    const ExitPolicy& policy = batch.exits[sequence];
    if (policy.layers == layers && doubts_[static_cast<size_t>(at)] <= policy.threshold)
      leaving_.push_back(row);
    else
      row_at_[static_cast<size_t>(kept++)] = row;
  }
  if (leaving_.empty()) return false;
  std::ranges::copy(leaving_, row_at_.begin() + kept);
  move_rows(kept, n_running_);
  n_running_ = kept;
  exit_hidden(*head, kept, static_cast<int>(leaving_.size()));
  list_runs(batch);
  return true;
}

// The first n rows of the stream as row_at_ has them now.
void Decoder::move_rows(int kept, int n) {
  const int64_t d = config_.d_model;
  const Rows x{scratch_.get(), areas_.x * rows_max_, n, d, d}, moved{scratch_.get(), areas_.h * rows_max_, n, d, d};
  from_.clear();
  for (int at = 0; at < n; ++at) from_.push_back(place_[static_cast<size_t>(row_at_[static_cast<size_t>(at)])]);
  for (int at = 0; at < static_cast<int>(place_.size()); ++at)
    place_[static_cast<size_t>(row_at_[static_cast<size_t>(at)])] = at;
  if (kept == 0) return;  // all leave in the order in which they lie
  backend_.gather(x, from_, moved);
  backend_.copy(*scratch_, moved.offset * 4, *scratch_, x.offset * 4, n * d * 4);
}

// What lies side by side and is of one sequence, at consecutive positions: of the rows that go on, and of those that left.
void Decoder::list_runs(const Batch& batch) {
  running_.clear(), running_adapters_.clear(), skipped_.clear(), positions_.clear();
  size_t sequence = 0;
  for (int at = 0, last = -1; at < static_cast<int>(row_at_.size()); ++at) {
    const int32_t row = row_at_[static_cast<size_t>(at)];
    while (sequence > 0 && row < batch.sequences[sequence].first_row) sequence = 0;
    const size_t before = sequence;
    while (row >= batch.sequences[sequence].first_row + batch.sequences[sequence].count) ++sequence;
    const SequenceRows& whole = batch.sequences[sequence];
    const bool goes_on = at < n_running_;
    std::vector<SequenceRows>& runs = goes_on ? running_ : skipped_;
    if (last >= 0 && row == last + 1 && sequence == before && at != n_running_) {
      ++runs.back().count;
    } else {
      SequenceRows run = whole;
      run.first_row = goes_on ? at : at - n_running_, run.count = 1;
      run.position = whole.position + row - whole.first_row;
      runs.push_back(run);
      if (goes_on) running_adapters_.push_back(batch.adapters.empty() ? nullptr : batch.adapters[sequence]);
    }
    positions_.push_back(whole.position + row - whole.first_row);
    last = row;
  }
  upload_rope();
}

// Keys and values of the rows that left, for the rows that will look back at them here.
void Decoder::write_skipped(const Layer& layer, int index, const SequenceStore& store) {
  const LayerConfig& c = layer.config;
  const int n = static_cast<int>(place_.size()) - n_running_;
  const int64_t d = config_.d_model, kv = int64_t{c.n_kv_heads} * c.head_dim;
  const auto area = [&](int64_t offset, int64_t cols) {
    return Rows{scratch_.get(), offset * rows_max_ + n_running_ * cols, n, cols, cols};
  };
  const Rows k = area(areas_.k, kv), v = area(areas_.v, kv), none = area(areas_.q, 0);
  const std::array parts{LinearPart{layer.k.get(), layer.k_bias.get(), k, false},
                         LinearPart{layer.v.get(), layer.v_bias.get(), v, false}};
  backend_.linear({area(areas_.x, d), layer.attn_norm.get(), config_.norm_eps}, parts);
  backend_.kv_write(store.kv(index), none, k, v, skipped_, head_params(layer, n_running_, n));
}

void Decoder::layers_with_exits(const Batch& batch, const SequenceStore& store) {
  const int total = n_rows_;
  CHECK(exits_ && (batch.exits.empty() || batch.exits.size() == batch.sequences.size()));
  begin_exits();
  Batch rest = batch;
  for (int i = 0; i < config_.n_layers(); ++i) {
    if (batch.stop_at && batch.stop_at->layers == i) {
      n_running_ = 0;
      exit_hidden(*batch.stop_at, 0, total);
      break;
    }
    if (take_exits(i, batch)) rest.sequences = running_, rest.adapters = running_adapters_;
    const Layer& layer = layers_[static_cast<size_t>(i)];
    if (weights_) weights_->acquire(first_layer_ + i);
    if (n_running_ < total) write_skipped(layer, i, store);  // before others look at it
    n_rows_ = n_running_;
    if (n_running_ > 0) {
      mix_attention(layer, i, rest, store);
      feed_forward(layer, i, rest);
    }
    if (weights_) weights_->release(first_layer_ + i);
  }
  n_rows_ = total;
}

void Decoder::set_hidden(std::span<const float> hidden) {
  n_rows_ = static_cast<int>(hidden.size() / static_cast<size_t>(config_.d_model));
  CHECK(exits_ && n_rows_ > 0 && n_rows_ <= rows_max_);
  begin_exits();
  n_running_ = 0;
  backend_.upload(*exits_->hidden_, 0, std::as_bytes(hidden));
}

// As finished(), where rows may have left: all of it is normed already.
LinearInput Decoder::finished_with_exits(std::span<const int32_t> wanted, const Rows& out) {
  from_.clear();
  for (const int32_t row : wanted) from_.push_back(place_[static_cast<size_t>(row)]);
  const int64_t d = config_.d_model;
  backend_.gather(rows(areas_.x, d), from_, out);
  backend_.rms_norm(out, *output_norm_, config_.norm_eps, out);
  for (size_t i = 0; i < from_.size(); ++i)
    if (from_[i] >= n_running_)
      backend_.copy(*exits_->hidden_, from_[i] * d * 4, *scratch_, (out.offset + static_cast<int64_t>(i) * d) * 4,
                    d * 4);
  return {.x = out, .norm = nullptr, .norm_eps = 0};
}

bool Decoder::left_early(int row) const { return !place_.empty() && place_[static_cast<size_t>(row)] >= n_running_; }

double Decoder::read_bytes(int unit, bool left) const {
  if (unit == config_.n_layers()) return static_cast<double>(head().bytes());
  const Layer& layer = layers_[static_cast<size_t>(unit)];
  if (left) return layer.k ? static_cast<double>(layer.k->bytes() + layer.v->bytes()) : 0;
  double sum = 0;
  each_matrix(unit, [&](const Weight& weight) {
    const double share = weight.slices() > 1 ? static_cast<double>(config_.n_experts_used) / weight.slices() : 1;
    sum += share * static_cast<double>(weight.bytes());
  });
  return sum;
}

}  // namespace hearth
