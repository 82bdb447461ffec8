#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace hearth {
namespace {
// Logits are computed so many rows at a time: a vocabulary of 262,144 makes a mebibyte per row.
constexpr int kLogitRows = 4;
}  // namespace

Result<void> Decoder::allocate_scratch(int rows_max) {
  int64_t q = 0, kv = 0, mix = 0, ffn = 0, n_experts = 0;
  const int64_t d = config_.d_model;
  for (const LayerConfig& layer : config_.layers) {
    const bool convolves = layer.mixer == Mixer::kShortConv;
    q = std::max<int64_t>(q, convolves ? 3 * d : layer.n_heads * layer.head_dim);
    kv = std::max<int64_t>(kv, layer.n_kv_heads * layer.head_dim);
    mix = std::max<int64_t>(mix, convolves ? d : layer.n_heads * layer.head_dim);
    ffn = std::max<int64_t>(ffn, layer.d_ffn);
    n_experts = std::max<int64_t>(n_experts, layer.n_experts);
  }
  int64_t next = 0;
  auto area = [&](int64_t width) {
    const int64_t offset = next;
    next += (width + 15) / 16 * 16;
    return offset;
  };
  areas_.x = area(d), areas_.h = area(d), areas_.added = area(n_experts > 0 ? d : 0), areas_.router = area(n_experts);
  areas_.cos_sin = next;
  for (const Rope& rope : ropes_) rope_offsets_.push_back(area(rope.dims()));
  // What attention uses and what the feed-forward uses are never alive together.
  const int64_t shared = next;
  areas_.q = area(q), areas_.k = area(kv), areas_.v = area(kv), areas_.mix = area(mix);
  const int64_t end_of_attention = next;
  next = shared;
  areas_.gate = area(ffn), areas_.up = area(ffn);
  areas_.total = std::max(next, end_of_attention);

  constexpr int kRowsMax = 512;
  constexpr int64_t kScratchBytes = 16 << 20;
  if (rows_max <= 0)
    rows_max = static_cast<int>(std::clamp<int64_t>(kScratchBytes / (areas_.total * 4) / 32 * 32, 32, kRowsMax));
  rows_max_ = std::min(rows_max, context_);
  scratch_bytes_ = rows_max_ * areas_.total * 4;
  scratch_ = TRY(backend_.allocate(scratch_bytes_));
  const int64_t logit_bytes = int64_t{kLogitRows} * config_.n_vocab * 4;
  logits_ = TRY(backend_.allocate(logit_bytes));
  scratch_bytes_ += logit_bytes;
  cos_sin_.reserve(static_cast<size_t>(rows_max_) * 256);
  positions_.reserve(static_cast<size_t>(rows_max_));
  return {};
}

void Decoder::prepare_rope(const Batch& batch) {
  positions_.clear();
  for (const SequenceRows& sequence : batch.sequences)
    for (int i = 0; i < sequence.count; ++i) positions_.push_back(sequence.position + i);
  for (size_t i = 0; i < ropes_.size(); ++i) {
    cos_sin_.resize(static_cast<size_t>(n_rows_ * ropes_[i].dims()));
    ropes_[i].cos_sin(positions_, cos_sin_.data());
    backend_.upload(*scratch_, rope_offsets_[i] * rows_max_ * 4, std::as_bytes(std::span(cos_sin_)));
  }
}

void Decoder::add_to_stream(const Weight& weight, const Buffer* bias, Rows input, const Buffer* post_norm) {
  const Rows x = rows(areas_.x, config_.d_model);
  if (!post_norm && config_.residual_scale == 1.0f) {
    const LinearPart part{&weight, bias, x, true};
    return backend_.linear(input, {&part, 1});
  }
  const Rows added = rows(areas_.h, config_.d_model);  // what `h` held has been used
  const LinearPart part{&weight, bias, added, false};
  backend_.linear(input, {&part, 1});
  if (post_norm) backend_.rms_norm(added, *post_norm, config_.d_model, config_.norm_eps, added);
  backend_.add(x, added, config_.residual_scale);
}

void Decoder::mix_attention(const Layer& layer, int index, const Batch& batch, const SequenceStore& store) {
  const LayerConfig& c = layer.config;
  const Rows h = rows(areas_.h, config_.d_model);
  const Rows q = rows(areas_.q, int64_t{c.n_heads} * c.head_dim);
  const Rows k = rows(areas_.k, int64_t{c.n_kv_heads} * c.head_dim), v = rows(areas_.v, k.cols);
  const std::array parts{LinearPart{layer.q.get(), layer.q_bias.get(), q, false},
                         LinearPart{layer.k.get(), layer.k_bias.get(), k, false},
                         LinearPart{layer.v.get(), layer.v_bias.get(), v, false}};
  backend_.linear(h, parts);
  if (layer.q_norm) backend_.rms_norm(q, *layer.q_norm, c.head_dim, config_.norm_eps, q);
  if (layer.k_norm) backend_.rms_norm(k, *layer.k_norm, c.head_dim, config_.norm_eps, k);
  if (c.rope >= 0) {
    const auto r = static_cast<size_t>(c.rope);
    const Rows cos_sin = rows(rope_offsets_[r], ropes_[r].dims());
    backend_.rope(q, c.head_dim, ropes_[r].dims(), ropes_[r].style(), cos_sin);
    backend_.rope(k, c.head_dim, ropes_[r].dims(), ropes_[r].style(), cos_sin);
  }
  backend_.kv_write(store.kv(index), k, v, batch.sequences);
  const Rows mixed = rows(areas_.mix, q.cols);
  const float scale =
      config_.attention_scale != 0.0f ? config_.attention_scale : 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  backend_.attention(store.kv(index), q, batch.sequences,
                     {.scale = scale, .soft_cap = config_.attention_soft_cap, .window = c.window}, mixed);
  add_to_stream(*layer.o, layer.o_bias.get(), mixed, layer.post_attn_norm.get());
}

void Decoder::mix_short_conv(const Layer& layer, int index, const Batch& batch, const SequenceStore& store) {
  const Rows bcu = rows(areas_.q, 3 * int64_t{config_.d_model});
  const LinearPart in{layer.conv_in.get(), nullptr, bcu, false};
  backend_.linear(rows(areas_.h, config_.d_model), {&in, 1});
  const Rows mixed = rows(areas_.mix, config_.d_model);
  backend_.short_conv(bcu, *layer.conv_kernel, layer.conv_bias.get(), config_.conv_taps, store.states(),
                      store.state_stride(), store.state_offset(index), batch.sequences, mixed);
  add_to_stream(*layer.conv_out, nullptr, mixed, layer.post_attn_norm.get());
}

void Decoder::feed_forward(const Layer& layer) {
  const LayerConfig& c = layer.config;
  const Rows h = rows(areas_.h, config_.d_model);
  if (c.n_experts > 0) {
    const Rows router = rows(areas_.router, c.n_experts), added = rows(areas_.added, config_.d_model);
    const LinearPart part{layer.router.get(), nullptr, router, false};
    backend_.linear(h, {&part, 1});
    backend_.experts(h, router,
                     {.gate = layer.gate.get(),
                      .up = layer.up.get(),
                      .down = layer.down.get(),
                      .glu = config_.glu,
                      .n_used = config_.n_experts_used,
                      .softmax_before_top_k = config_.softmax_before_top_k,
                      .normalise = config_.normalise_expert_weights,
                      .scale = config_.expert_scale},
                     added);
    return backend_.add(rows(areas_.x, config_.d_model), added, config_.residual_scale);
  }
  const Rows gate = rows(areas_.gate, c.d_ffn), up = rows(areas_.up, c.d_ffn);
  const std::array parts{LinearPart{layer.gate.get(), nullptr, gate, false},
                         LinearPart{layer.up.get(), nullptr, up, false}};
  backend_.linear(h, parts);
  backend_.glu(config_.glu, gate, up, gate);
  add_to_stream(*layer.down, nullptr, gate, layer.post_ffn_norm.get());
}

void Decoder::run(const Batch& batch, const SequenceStore& store) {
  n_rows_ = static_cast<int>(batch.tokens.size());
  CHECK(n_rows_ > 0 && n_rows_ <= rows_max_);
  prepare_rope(batch);
  const Rows x = rows(areas_.x, config_.d_model), h = rows(areas_.h, config_.d_model);
  backend_.embed(*embedding_, batch.tokens, config_.embedding_scale, x);
  for (int i = 0; i < config_.n_layers(); ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    backend_.rms_norm(x, *layer.attn_norm, config_.d_model, config_.norm_eps, h);
    if (layer.config.mixer == Mixer::kAttention)
      mix_attention(layer, i, batch, store);
    else
      mix_short_conv(layer, i, batch, store);
    backend_.rms_norm(x, *layer.ffn_norm, config_.d_model, config_.norm_eps, h);
    feed_forward(layer);
  }
}

void Decoder::finish_rows(std::span<const int32_t> wanted, Rows out) {
  backend_.gather(rows(areas_.x, config_.d_model), wanted, out);
  backend_.rms_norm(out, *output_norm_, config_.d_model, config_.norm_eps, out);
}

void Decoder::logits(std::span<const int32_t> wanted, std::span<float> out) {
  const auto n_vocab = static_cast<size_t>(config_.n_vocab);
  CHECK(out.size() == wanted.size() * n_vocab);
  for (size_t first = 0; first < wanted.size(); first += kLogitRows) {
    const auto some = wanted.subspan(first, std::min<size_t>(kLogitRows, wanted.size() - first));
    const int count = static_cast<int>(some.size());
    // `h` is free between steps.
    const Rows finished{scratch_.get(), areas_.h * rows_max_, count, config_.d_model, config_.d_model};
    const Rows result{logits_.get(), 0, count, config_.n_vocab, config_.n_vocab};
    finish_rows(some, finished);
    const LinearPart part{head_ ? head_.get() : embedding_.get(), nullptr, result, false};
    backend_.linear(finished, {&part, 1});
    if (config_.logit_scale != 1.0f || config_.logit_soft_cap != 0.0f)
      backend_.scale(result, config_.logit_scale, config_.logit_soft_cap);
    backend_.download(*logits_, 0, std::as_writable_bytes(out.subspan(first * n_vocab, some.size() * n_vocab)));
  }
}

void Decoder::hidden(std::span<const int32_t> wanted, std::span<float> out) {
  const int count = static_cast<int>(wanted.size());
  CHECK(count <= rows_max_ && out.size() == wanted.size() * static_cast<size_t>(config_.d_model));
  const Rows finished{scratch_.get(), areas_.h * rows_max_, count, config_.d_model, config_.d_model};
  finish_rows(wanted, finished);
  backend_.download(*scratch_, areas_.h * rows_max_ * 4, std::as_writable_bytes(out));
}

}  // namespace hearth
