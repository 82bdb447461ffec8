// The one decoder: all families are parameters of it (DecoderConfig) and the tensors they have.
//
// A layer, as the papers write it (pre-norm; x is the residual stream):
//   h = norm(x); q, k, v = Wq h, Wk h, Wv h (+ biases); q, k = norm per head, rope; x += Wo attention(q, K, V)
//   h = norm(x); x += Wdown (act(Wgate h) * Wup h), or the mixture of experts
// Gemma norms what is added once more; LFM2 puts a short convolution in attention's place.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/decoder_config.h"
#include "model/rope.h"
#include "model/sequence.h"

namespace hearth {

struct DecoderOptions {
  int context = 0;   // positions a sequence may have; 0: 4096 or the model's maximum if that is less
  int rows_max = 0;  // rows of one step; 0: as many up to 512 as scratch of 16 MiB allows
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // while loading; may be empty
};

// One step: rows of several sequences, each sequence's rows side by side and at consecutive positions.
struct Batch {
  std::span<const int32_t> tokens;          // one per row
  std::span<const SequenceRows> sequences;  // cover all rows in order
};

class Decoder {
 public:
  // Reads, checks and lays out all tensors. The backend outlives the decoder. Errors name the tensor, with both shapes.
  static Result<std::unique_ptr<Decoder>> load(const Checkpoint& checkpoint, Backend& backend,
                                               const DecoderOptions& options);

  [[nodiscard]] const DecoderConfig& config() const { return config_; }
  [[nodiscard]] int context() const { return context_; }
  [[nodiscard]] int rows_max() const { return rows_max_; }
  [[nodiscard]] int64_t weight_bytes() const { return weight_bytes_; }
  [[nodiscard]] int64_t scratch_bytes() const { return scratch_bytes_; }

  // Runs embedding and all layers over at most rows_max rows; KV is written at the rows' positions, for which room was reserved.
  // The caller advances the sequences. Tokens are below n_vocab.
  void run(const Batch& batch, const SequenceStore& store);
  // Logits of rows of the last run: out is [rows][n_vocab].
  void logits(std::span<const int32_t> rows, std::span<float> out);
  // Final hidden states (after the last norm) of rows of the last run: out is [rows][d_model].
  void hidden(std::span<const int32_t> rows, std::span<float> out);

 private:
  friend class DecoderLoader;
  using Vector = std::unique_ptr<Buffer>;
  using Matrix = std::unique_ptr<Weight>;
  struct Layer {
    LayerConfig config;
    Vector attn_norm, post_attn_norm, ffn_norm, post_ffn_norm, q_norm, k_norm;
    Matrix q, k, v, o;
    Vector q_bias, k_bias, v_bias, o_bias;
    Matrix gate, up, down, router;  // with experts, gate, up and down have a slice each
    Matrix conv_in, conv_out;
    Vector conv_kernel, conv_bias;
  };

  Decoder(Backend& backend, DecoderConfig config) : backend_(backend), config_(std::move(config)) {}
  Result<void> allocate_scratch(int rows_max);
  void prepare_rope(const Batch& batch);
  void mix_attention(const Layer& layer, int index, const Batch& batch, const SequenceStore& store);
  void mix_short_conv(const Layer& layer, int index, const Batch& batch, const SequenceStore& store);
  void feed_forward(const Layer& layer);
  // x += residual_scale * post_norm(weight * input), in one product where nothing stands between.
  void add_to_stream(const Weight& weight, const Buffer* bias, Rows input, const Buffer* post_norm);
  void finish_rows(std::span<const int32_t> rows, Rows out);
  // The first n rows of a scratch area, `cols` wide.
  [[nodiscard]] Rows rows(int64_t offset, int64_t cols) const {
    return {scratch_.get(), offset * rows_max_, n_rows_, cols, cols};
  }

  Backend& backend_;
  DecoderConfig config_;
  int context_ = 0, rows_max_ = 0, n_rows_ = 0;
  int64_t weight_bytes_ = 0, scratch_bytes_ = 0;
  std::vector<Layer> layers_;
  Matrix embedding_, head_;  // head_ null: tied to the embedding
  Vector output_norm_;
  std::vector<Rope> ropes_;
  // Scratch: offsets in floats per row.
  struct Areas {
    int64_t x, h, q, k, v, mix, gate, up, added, router, cos_sin, total;
  } areas_{};
  std::vector<int64_t> rope_offsets_;  // of each rope within cos_sin
  std::unique_ptr<Buffer> scratch_, logits_;
  std::vector<float> cos_sin_;  // host side, before upload
  std::vector<int> positions_;
};

}  // namespace hearth
