#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/limits.h"

namespace hearth {
namespace {
// Logits are computed so many rows at a time: a vocabulary of 262,144 makes a mebibyte per row.
constexpr int kLogitRows = 4;
// Rows with an adapter go through its products so many at a time.
constexpr int kAdapterRows = 64;
}  // namespace

Decoder::~Decoder() {
  if (weights_) weights_->detach();
}

Result<void> Decoder::allocate_scratch(int rows_max, int adapter_rank_max) {
  int64_t ffn = 0, q = 0, kv = 0, mix = 0;
  const int64_t d = config_.d_model;
  for (const LayerConfig& layer : config_.layers) {
    const bool convolves = layer.mixer == Mixer::kShortConv;
    q = std::max<int64_t>(q, convolves ? 3 * d : layer.n_heads * layer.head_dim);
    kv = std::max<int64_t>(kv, layer.n_kv_heads * layer.head_dim);
    ffn = std::max<int64_t>(ffn, layer.d_ffn);
    mix = std::max<int64_t>(mix, convolves ? d : layer.n_heads * layer.head_dim);
  }
  int64_t next = 0;
  auto area = [&](int64_t width) {
    const int64_t offset = next;
    next += (width + 15) / 16 * 16;
    return offset;
  };
  areas_.x = area(d), areas_.h = area(d);
  for (const Rope& rope : ropes_) rope_offsets_.push_back(area(rope.dims()));
  areas_.q = area(q), areas_.k = area(kv), areas_.v = area(kv), areas_.mix = area(mix);
  areas_.total = next;

  constexpr int kRowsMax = 384;
  constexpr int64_t kScratchBytes = 16 << 20;
  if (rows_max <= 0)
    rows_max = static_cast<int>(std::clamp<int64_t>(kScratchBytes / (areas_.total * 4) / 32 * 32, 32, kRowsMax));
  rows_max_ = std::min(rows_max, context_);
  // Logits lie where attention's areas are: by then the layers are done.
  scratch_bytes_ = 4 * std::max(rows_max_ * areas_.total, rows_max_ * areas_.q + int64_t{kLogitRows} * config_.n_vocab);
  scratch_ = TRY(backend_.allocate(scratch_bytes_));
  if (adapter_rank_max < 0 || adapter_rank_max > static_cast<int>(limits::kAdapterRank))
    return fail(Code::kInvalidArgument, "adapters of rank {}; use 0 to {}", adapter_rank_max, limits::kAdapterRank);
  adapter_rank_max_ = adapter_rank_max;
  if (adapter_rank_max > 0) {
    const int64_t bytes = 4 * kAdapterRows * (adapter_rank_max + 2 * ffn);
    adapter_scratch_ = TRY(backend_.allocate(bytes));
    scratch_bytes_ += bytes;
  }
  cos_sin_.reserve(static_cast<size_t>(rows_max_) * 256);
  positions_.reserve(static_cast<size_t>(rows_max_));
  return {};
}

void Decoder::set_bits(int unit, int bits) {
  CHECK(unit >= 0 && unit < n_units() && (bits == 4 || bits == 8));
  bits_[static_cast<size_t>(unit)] = bits;
  each_matrix(unit, [&](Weight& weight) { weight.read_low(bits == 8); });
}

std::string Decoder::precision() const {
  const std::string experts =
      config_.n_experts_used == experts_of_model_ ? "" : fmt::format(" experts {}", config_.n_experts_used);
  if (!has_low_planes_) return "8" + experts;
  std::string text;
  for (size_t i = 0, same = 0; i < bits_.size(); i += same) {
    for (same = 1; i + same < bits_.size() && bits_[i + same] == bits_[i];) ++same;
    if (same == bits_.size()) return fmt::format("{}{}", bits_[i], experts);
    text += fmt::format("{}{}*{}", i > 0 ? " " : "", bits_[i], same);
  }
  return text + experts;
}

void Decoder::prepare_rope(const Batch& batch) {
  positions_.clear();
  for (const SequenceRows& sequence : batch.sequences)
    for (int i = 0; i < sequence.count; ++i) positions_.push_back(sequence.position + i);
  upload_rope();
}

void Decoder::upload_rope() {
  for (size_t i = 0; i < ropes_.size(); ++i) {
    cos_sin_.resize(positions_.size() * static_cast<size_t>(ropes_[i].dims()));
    ropes_[i].cos_sin(positions_, cos_sin_.data());
    backend_.upload(*scratch_, rope_offsets_[i] * rows_max_ * 4, std::as_bytes(std::span(cos_sin_)));
  }
}

void Decoder::add_low_rank(const LinearInput& in, const LowRank* low, Rows out) {
  if (!low) return;
  const int64_t rank = low->a->rows();
  for (int first = 0; first < out.n; first += kAdapterRows) {
    const int n = std::min(kAdapterRows, out.n - first);
    LinearInput some = in;
    some.x = in.x.rows(first, n);
    const Rows narrow{adapter_scratch_.get(), 0, n, rank, rank};
    const LinearPart down{low->a.get(), nullptr, narrow, false}, up{low->b.get(), nullptr, out.rows(first, n), true};
    backend_.linear(some, {&down, 1});
    backend_.linear({narrow}, {&up, 1});
  }
}

void Decoder::adapt(const LinearInput& in, int index, Adapted kind, const Batch& batch, Rows out) {
  for (size_t i = 0; i < batch.adapters.size(); ++i) {
    const Adapter* adapter = batch.adapters[i];
    if (!adapter) continue;
    const SequenceRows& rows = batch.sequences[i];
    LinearInput some = in;
    some.x = in.x.rows(rows.first_row, rows.count);
    add_low_rank(some, adapter->find(index, kind), out.rows(rows.first_row, rows.count));
  }
}

void Decoder::add_to_stream(const Weight& weight, const Buffer* bias, Rows input, const Buffer* post_norm, int index,
                            const Batch& batch) {
  const Rows x = rows(areas_.x, config_.d_model);
  if (!post_norm && config_.residual_scale == 1.0f) {
    const LinearPart part{&weight, bias, x, true};
    backend_.linear({input}, {&part, 1});
    return adapt({input}, index, Adapted::kO, batch, x);
  }
  const Rows added = rows(areas_.h, config_.d_model);  // what `h` held has been used
  const LinearPart part{&weight, bias, added, false};
  backend_.linear({input}, {&part, 1});
  adapt({input}, index, Adapted::kO, batch, added);
  backend_.add(x, {added, post_norm, config_.norm_eps}, config_.residual_scale);
}

// For rows [first, first + n) of the step.
HeadParams Decoder::head_params(const Layer& layer, int first, int n) const {
  HeadParams heads{.q_norm = layer.q_norm.get(), .k_norm = layer.k_norm.get(), .norm_eps = config_.norm_eps};
  if (layer.config.rope >= 0) {
    const auto r = static_cast<size_t>(layer.config.rope);
    heads.rope_dims = ropes_[r].dims(), heads.rope_style = ropes_[r].style();
    heads.cos_sin = {scratch_.get(), rope_offsets_[r] * rows_max_ + int64_t{first} * heads.rope_dims, n,
                     heads.rope_dims, heads.rope_dims};
  }
  return heads;
}

void Decoder::mix_attention(const Layer& layer, int index, const Batch& batch, const SequenceStore& store) {
  const LayerConfig& c = layer.config;
  const Rows q = rows(areas_.q, int64_t{c.n_heads} * c.head_dim);
  const Rows k = rows(areas_.k, int64_t{c.n_kv_heads} * c.head_dim), v = rows(areas_.v, k.cols);
  const std::array parts{LinearPart{layer.q.get(), layer.q_bias.get(), q, false},
                         LinearPart{layer.k.get(), layer.k_bias.get(), k, false},
                         LinearPart{layer.v.get(), layer.v_bias.get(), v, false}};
  backend_.linear(stream(layer.attn_norm), parts);
  adapt(stream(layer.attn_norm), index, Adapted::kQ, batch, q);
  adapt(stream(layer.attn_norm), index, Adapted::kK, batch, k);
  adapt(stream(layer.attn_norm), index, Adapted::kV, batch, v);
  backend_.kv_write(store.kv(index), q, k, v, batch.sequences, head_params(layer, 0, n_rows_));
  const Rows mixed = rows(areas_.mix, q.cols);
  const float scale =
      config_.attention_scale != 0.0f ? config_.attention_scale : 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  backend_.attention(store.kv(index), q, batch.sequences,
                     {.scale = scale, .soft_cap = config_.attention_soft_cap, .window = c.window}, mixed);
  add_to_stream(*layer.o, layer.o_bias.get(), mixed, layer.post_attn_norm.get(), index, batch);
}

void Decoder::mix_short_conv(const Layer& layer, int index, const Batch& batch, const SequenceStore& store) {
  const Rows bcu = rows(areas_.q, 3 * int64_t{config_.d_model});
  const LinearPart in{layer.conv_in.get(), nullptr, bcu, false};
  backend_.linear(stream(layer.attn_norm), {&in, 1});
  const Rows mixed = rows(areas_.mix, config_.d_model);
  backend_.short_conv(bcu, *layer.conv_kernel, layer.conv_bias.get(), config_.conv_taps, store.states(),
                      store.state_stride(), store.state_offset(index), batch.sequences, mixed);
  add_to_stream(*layer.conv_out, nullptr, mixed, layer.post_attn_norm.get(), index, batch);
}

void Decoder::feed_forward(const Layer& layer, int index, const Batch& batch) {
  const Rows x = rows(areas_.x, config_.d_model);
  const LinearInput in = stream(layer.ffn_norm);
  const FeedForwardParams params{layer.gate.get(), layer.up.get(), layer.down.get(), config_.glu};
  if (layer.config.n_experts > 0)
    return backend_.experts(in,
                            {.router = layer.router.get(),
                             .experts = params,
                             .n_used = config_.n_experts_used,
                             .softmax_before_top_k = config_.softmax_before_top_k,
                             .normalise = config_.normalise_expert_weights,
                             .scale = config_.expert_scale,
                             .source = weights_ ? weights_->experts() : nullptr,
                             .layer = first_layer_ + index},
                            x, config_.residual_scale);
  const bool direct = !layer.post_ffn_norm && config_.residual_scale == 1.0f;
  const Rows out = direct ? x : rows(areas_.h, config_.d_model);
  // Rows without an adapter go together, up to the next that has one.
  int done = 0;
  auto plain_up_to = [&](int end) {
    LinearInput some = in;
    some.x = in.x.rows(done, end - done);
    if (end > done) backend_.feed_forward(some, params, out.rows(done, end - done), direct);
  };
  for (size_t i = 0; i < batch.adapters.size(); ++i) {
    if (!batch.adapters[i] || !batch.adapters[i]->changes_feed_forward(index)) continue;
    const SequenceRows& rows = batch.sequences[i];
    plain_up_to(rows.first_row);
    adapted_feed_forward(layer, index, *batch.adapters[i], rows.first_row, rows.count, out, direct);
    done = rows.first_row + rows.count;
  }
  plain_up_to(n_rows_);
  if (!direct) backend_.add(x, {out, layer.post_ffn_norm.get(), config_.norm_eps}, config_.residual_scale);
}

void Decoder::adapted_feed_forward(const Layer& layer, int index, const Adapter& adapter, int first, int count,
                                   Rows out, bool accumulate) {
  const int64_t d_ffn = layer.config.d_ffn;
  for (const int end = first + count; first < end; first += kAdapterRows) {
    const int n = std::min(kAdapterRows, end - first);
    LinearInput in = stream(layer.ffn_norm);
    in.x = in.x.rows(first, n);
    const Rows gate{adapter_scratch_.get(), int64_t{kAdapterRows} * adapter_rank_max_, n, d_ffn, d_ffn};
    const Rows up{adapter_scratch_.get(), gate.offset + kAdapterRows * d_ffn, n, d_ffn, d_ffn};
    const std::array parts{LinearPart{layer.gate.get(), nullptr, gate, false},
                           LinearPart{layer.up.get(), nullptr, up, false}};
    backend_.linear(in, parts);
    add_low_rank(in, adapter.find(index, Adapted::kGate), gate);
    add_low_rank(in, adapter.find(index, Adapted::kUp), up);
    backend_.glu(gate, up, config_.glu, gate);
    const LinearPart down{layer.down.get(), nullptr, out.rows(first, n), accumulate};
    backend_.linear({gate}, {&down, 1});
    add_low_rank({gate}, adapter.find(index, Adapted::kDown), out.rows(first, n));
  }
}

void Decoder::run(const Batch& batch, const SequenceStore& store) {
  n_rows_ = static_cast<int>(batch.tokens.size());
  CHECK(n_rows_ > 0 && n_rows_ <= rows_max_);
  backend_.embed(*embedding_, batch.tokens, config_.embedding_scale, rows(areas_.x, config_.d_model));
  all_layers(batch, store);
}

void Decoder::all_layers(const Batch& batch, const SequenceStore& store) {
  prepare_rope(batch);
  place_.clear();
  if (!batch.exits.empty() || batch.stop_at) return layers_with_exits(batch, store);
  for (int i = 0; i < config_.n_layers(); ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    if (batch.watch && i > 0) (*batch.watch)(i);
    if (weights_) weights_->acquire(first_layer_ + i);
    if (layer.config.mixer == Mixer::kAttention)
      mix_attention(layer, i, batch, store);
    else
      mix_short_conv(layer, i, batch, store);
    feed_forward(layer, i, batch);
    if (weights_) weights_->release(first_layer_ + i);
  }
}

void Decoder::embed(std::span<const int32_t> tokens, std::span<float> stream) {
  n_rows_ = static_cast<int>(tokens.size());
  CHECK(n_rows_ > 0 && n_rows_ <= rows_max_);
  backend_.embed(*embedding_, tokens, config_.embedding_scale, rows(areas_.x, config_.d_model));
  backend_.download(*scratch_, areas_.x * rows_max_ * 4, std::as_writable_bytes(stream));
}

void Decoder::set_stream(std::span<const float> stream) {
  place_.clear();
  n_rows_ = static_cast<int>(stream.size() / static_cast<size_t>(config_.d_model));
  CHECK(n_rows_ > 0 && n_rows_ <= rows_max_ && stream.size() % static_cast<size_t>(config_.d_model) == 0);
  backend_.upload(*scratch_, areas_.x * rows_max_ * 4, std::as_bytes(stream));
}

void Decoder::run_layers(const Batch& batch, const SequenceStore& store, std::span<float> stream) {
  set_stream(stream);
  all_layers(batch, store);
  backend_.download(*scratch_, areas_.x * rows_max_ * 4, std::as_writable_bytes(stream));
}

void Decoder::finish(std::span<const float> stream) { set_stream(stream); }

// Rows of the last run, side by side; the last norm is still to come.
LinearInput Decoder::finished(std::span<const int32_t> wanted) {
  // `h` is free between steps.
  const Rows out{scratch_.get(), areas_.h * rows_max_, static_cast<int>(wanted.size()), config_.d_model,
                 config_.d_model};
  CHECK(out.n <= rows_max_);
  if (!place_.empty()) return finished_with_exits(wanted, out);
  backend_.gather(rows(areas_.x, config_.d_model), wanted, out);
  return {out, output_norm_.get(), config_.norm_eps};
}

void Decoder::residual(std::span<const int32_t> wanted, std::span<float> out) {
  CHECK(place_.empty() && out.size() == wanted.size() * static_cast<size_t>(config_.d_model));
  backend_.download(*scratch_, finished(wanted).x.offset * 4, std::as_writable_bytes(out));
}

void Decoder::logits(std::span<const int32_t> wanted, std::span<float> out) {
  const auto n_vocab = static_cast<size_t>(config_.n_vocab);
  CHECK(out.size() == wanted.size() * n_vocab);
  for (size_t first = 0; first < wanted.size(); first += kLogitRows) {
    const auto some = wanted.subspan(first, std::min<size_t>(kLogitRows, wanted.size() - first));
    const Rows result{scratch_.get(), areas_.q * rows_max_, static_cast<int>(some.size()), config_.n_vocab,
                      config_.n_vocab};
    const LinearPart part{&head(), nullptr, result, false};
    backend_.linear(finished(some), {&part, 1});
    if (config_.logit_scale != 1.0f || config_.logit_soft_cap != 0.0f)
      backend_.scale(result, config_.logit_scale, config_.logit_soft_cap);
    backend_.download(*scratch_, 4 * areas_.q * rows_max_,
                      std::as_writable_bytes(out.subspan(first * n_vocab, some.size() * n_vocab)));
  }
}

void Decoder::most_likely(std::span<const int32_t> wanted, int count, std::span<int32_t> tokens,
                          std::span<float> logits) {
  backend_.largest(finished(wanted), head(), config_.logit_scale, config_.logit_soft_cap, count, tokens, logits);
}

void Decoder::hidden(std::span<const int32_t> wanted, std::span<float> out) {
  CHECK(out.size() == wanted.size() * static_cast<size_t>(config_.d_model));
  const LinearInput in = finished(wanted);
  if (in.norm) backend_.rms_norm(in.x, *in.norm, in.norm_eps, in.x);
  backend_.download(*scratch_, in.x.offset * 4, std::as_writable_bytes(out));
}

}  // namespace hearth
