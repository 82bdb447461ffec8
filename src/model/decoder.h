// The one decoder: all families are parameters of it (DecoderConfig) and the tensors they have.
//
// A layer, as the papers write it (pre-norm; x is the residual stream):
//   h = norm(x); q, k, v = Wq h, Wk h, Wv h (+ biases); q, k = norm per head, rope; x += Wo attention(q, K, V)
//   h = norm(x); x += Wdown (act(Wgate h) * Wup h), or the mixture of experts
// Gemma norms what is added once more; LFM2 puts a short convolution in attention's place.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/function_ref.h"
#include "model/adapter.h"
#include "model/checkpoint.h"
#include "model/decoder_config.h"
#include "model/rope.h"
#include "model/sequence.h"
#include "model/weight_stream.h"

namespace hearth {

// Some consecutive layers of a model, [first, end), without embedding and head: a stage.
struct LayerRange {
  int first = 0, end = 0;
};

struct DecoderOptions {
  std::optional<LayerRange> layers{};  // a stage; by default the whole model. An empty one is embedding and head alone
  int context = 0;                     // positions a sequence may have; 0: 4096 or the model's maximum if that is less
  int rows_max = 0;                    // rows of one step; 0: as many up to 512 as scratch of 16 MiB allows
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;  // while loading; may be empty
  WeightStream* weights =
      nullptr;   // where a pack's matrices are in memory, if not where they are mapped; outlives the decoder
  int bits = 8;  // of nested matrices: 8, or 4 (see set_bits)
  int adapter_rank_max = 0;  // room for sequences with adapters (adapter.h) up to this rank; 0: there are none
  int experts = 0;           // of a mixture: so many for each token instead of the model's own number; 0: that
};

// A matrix or vector of a decoder before it is laid out, under the name by which it is asked for: GGUF's, whatever the file;
// matrices that a file has as one are apart, experts are the slices of one.
struct PlannedTensor {
  std::string name;
  std::array<uint64_t, 4> shape = {1, 1, 1, 1};
  int n_dims = 1;
  WeightSource matrix{};        // views into the checkpoint; no slices: it is a vector
  std::vector<float> floats{};  // of a vector, as the file has it
};

struct ExitHead;
class ExitHeads;

// Which rows of a sequence leave: those doubted no more than `threshold` after so many layers. 0: none.
struct ExitPolicy {
  int layers = 0;
  float threshold = 0;
};

// One step: rows of several sequences, each sequence's rows side by side and at consecutive positions.
struct Batch {
  std::span<const int32_t> tokens;          // one per row
  std::span<const SequenceRows> sequences;  // cover all rows in order
  // One per sequence, null for the model as it is; empty: null for all. Each fits this decoder.
  std::span<const Adapter* const> adapters{};
  // One per sequence, where any may leave early (exits.h); such sequences have no adapter. Empty: all rows run through all layers.
  std::span<const ExitPolicy> exits{};
  const ExitHead* stop_at = nullptr;  // all rows end here, and nothing is written above: for a guess
  // Called behind each layer but the last, with how many ran; hidden() then gives what the last norm makes of the stream there.
  const FunctionRef<void(int layers)>* watch = nullptr;
};

class Decoder {
 public:
  // Reads, checks and lays out all tensors. The backend outlives the decoder, and so does a checkpoint that is a pack: its
  // matrices are used where they lie. Errors name the tensor, with both shapes.
  static Result<std::unique_ptr<Decoder>> load(const Checkpoint& checkpoint, Backend& backend,
                                               const DecoderOptions& options);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Has the matrices of a whole model, loaded from this pack, placed by `weights` from now on.
  Result<void> attach_weights(const Checkpoint& pack, WeightStream& weights);

  // The same checks; what would be laid out, in the order of the layers, instead.
  static Result<std::vector<PlannedTensor>> plan(const Checkpoint& checkpoint, Backend& backend);

  [[nodiscard]] const DecoderConfig& config() const { return config_; }
  [[nodiscard]] int context() const { return context_; }
  [[nodiscard]] int rows_max() const { return rows_max_; }
  [[nodiscard]] int adapter_rank_max() const { return adapter_rank_max_; }
  [[nodiscard]] int64_t weight_bytes() const { return weight_bytes_; }
  [[nodiscard]] int64_t scratch_bytes() const { return scratch_bytes_; }

  // Nested matrices (tensor/panel.h) are read at 8 bits or, without their low planes, at 4: as each unit says, which is a
  // layer or, as the last, embedding and head. Changing that takes microseconds and holds from the next run on; what is in
  // the sequences stays as it was computed.
  [[nodiscard]] int n_units() const { return config_.n_layers() + 1; }
  [[nodiscard]] bool has_low_planes() const { return has_low_planes_; }
  void set_bits(int unit, int bits);
  // "8", "4", or what each unit has: "4*12 8*19". The same for all models without nested matrices.
  [[nodiscard]] std::string precision() const;

  // Rows may leave at these from now on; they outlive the decoder's use of them. Null: at none.
  void use_exits(ExitHeads* exits) { exits_ = exits; }
  // Rows of final hidden states (after the last norm), for logits() and most_likely(), as if a run had left them. Needs exits.
  void set_hidden(std::span<const float> hidden);
  // Whether a row of the last run left before the last layer.
  [[nodiscard]] bool left_early(int row) const;
  // Bytes of weights a token reads of a unit (of a mixture's experts its share), or of a layer that it left out.
  [[nodiscard]] double read_bytes(int unit, bool left = false) const;

  // Runs embedding and all layers over at most rows_max rows; KV is written at the rows' positions, for which room was reserved.
  // The caller advances the sequences. Tokens are below n_vocab.
  void run(const Batch& batch, const SequenceStore& store);
  // run() in parts, for a model whose layers are apart; `stream` is [rows][d_model]. Embedding and head are those of a whole
  // model or of an empty stage.
  void embed(std::span<const int32_t> tokens, std::span<float> stream);
  void run_layers(const Batch& batch, const SequenceStore& store, std::span<float> stream);
  // What logits() and those after it take for the rows of the last run.
  void finish(std::span<const float> stream);

  // Logits of rows of the last run: out is [rows][n_vocab].
  void logits(std::span<const int32_t> rows, std::span<float> out);
  // The `count` most likely tokens of each of those rows and their logits, best first, ties to the lower token: [rows][count].
  // Faster than logits(), which it agrees with to the bit; at most rows_max rows.
  void most_likely(std::span<const int32_t> rows, int count, std::span<int32_t> tokens, std::span<float> logits);
  // The residual stream of rows of the last run, which finish() takes anywhere: out is [rows][d_model]. Not with exits.
  void residual(std::span<const int32_t> rows, std::span<float> out);
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
  Result<void> allocate_scratch(int rows_max, int adapter_rank_max);
  void prepare_rope(const Batch& batch);
  void upload_rope();
  [[nodiscard]] HeadParams head_params(const Layer& layer, int first, int n) const;
  void all_layers(const Batch& batch, const SequenceStore& store);
  void set_stream(std::span<const float> stream);
  void mix_attention(const Layer& layer, int index, const Batch& batch, const SequenceStore& store);
  void mix_short_conv(const Layer& layer, int index, const Batch& batch, const SequenceStore& store);
  void feed_forward(const Layer& layer, int index, const Batch& batch);
  // Rows [first, first + count) one after the other: norm, gate and up, down into `out`, with what the adapter adds to each.
  void adapted_feed_forward(const Layer& layer, int index, const Adapter& adapter, int first, int count, Rows out,
                            bool accumulate);
  // x += residual_scale * post_norm(weight * input), in one product where nothing stands between. `index`: of the layer.
  void add_to_stream(const Weight& weight, const Buffer* bias, Rows input, const Buffer* post_norm, int index,
                     const Batch& batch);
  // Adds to `out` what the sequences' adapters add to a product.
  void adapt(const LinearInput& in, int index, Adapted kind, const Batch& batch, Rows out);
  void add_low_rank(const LinearInput& in, const LowRank* low, Rows out);
  // Calls f for every matrix of a unit that is there.
  template <typename Function>
  void each_matrix(int unit, Function f) const {
    auto call = [&](std::initializer_list<const Matrix*> all) {
      for (const Matrix* matrix : all)
        if (*matrix) f(**matrix);
    };
    if (unit == config_.n_layers()) return call({&embedding_, &head_});
    const Layer& l = layers_[static_cast<size_t>(unit)];
    call({&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down, &l.router, &l.conv_in, &l.conv_out});
  }
  LinearInput finished(std::span<const int32_t> rows);
  // decoder_exits.cc
  void layers_with_exits(const Batch& batch, const SequenceStore& store);
  void begin_exits();
  bool take_exits(int layers, const Batch& batch);
  void move_rows(int kept, int n);
  void list_runs(const Batch& batch);
  void write_skipped(const Layer& layer, int index, const SequenceStore& store);
  void exit_hidden(const ExitHead& head, int first, int n);
  LinearInput finished_with_exits(std::span<const int32_t> wanted, const Rows& out);
  [[nodiscard]] const Weight& head() const { return head_ ? *head_ : *embedding_; }
  // The residual stream, normed, as a layer reads it.
  [[nodiscard]] LinearInput stream(const Vector& norm) const {
    return {rows(areas_.x, config_.d_model), norm.get(), config_.norm_eps};
  }
  // The first n rows of a scratch area, `cols` wide.
  [[nodiscard]] Rows rows(int64_t offset, int64_t cols) const {
    return {scratch_.get(), offset * rows_max_, n_rows_, cols, cols};
  }

  Backend& backend_;
  DecoderConfig config_;
  int context_ = 0, rows_max_ = 0, n_rows_ = 0;
  int64_t weight_bytes_ = 0, scratch_bytes_ = 0;
  std::vector<Layer> layers_;
  WeightStream* weights_ = nullptr;  // null: all are where they stay
  int first_layer_ = 0;              // of the model
  bool has_low_planes_ = false;
  std::vector<int> bits_;    // of each unit
  Matrix embedding_, head_;  // head_ null: tied to the embedding
  Vector output_norm_;
  std::vector<Rope> ropes_;
  // Scratch: offsets in floats per row.
  struct Areas {
    int64_t x, h, q, k, v, mix, total;
  } areas_{};
  std::vector<int64_t> rope_offsets_;  // of each rope within cos_sin
  std::unique_ptr<Buffer> scratch_;
  int adapter_rank_max_ = 0;
  std::unique_ptr<Buffer>
      adapter_scratch_;         // rows of the largest rank, then of a gate, then of an up; null without adapters
  std::vector<float> cos_sin_;  // host side, before upload
  std::vector<int> positions_;
  ExitHeads* exits_ = nullptr;
  // Of the last run, if rows may have left in it; else empty.
  std::vector<int32_t> place_, row_at_;
  int n_running_ = 0;
  std::vector<SequenceRows> running_, skipped_;
  std::vector<const Adapter*> running_adapters_;
  std::vector<int32_t> leaving_, from_;
  std::vector<float> doubts_;
  int experts_of_model_ = 0;
};

}  // namespace hearth
