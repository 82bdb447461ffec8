// What a device must do to run a decoder. The engine sees memory only as Buffers and Weights of a Backend, never as pointers,
// so that a device with its own memory fits. Operations complete in the order they are called; upload, download and copy order
// themselves with them. One thread drives a Backend at a time.
//
// Shapes: a Rows is n rows of f32, `cols` wide, `stride` floats apart, inside a Buffer. Sizes were checked when the model was
// loaded, so operations do not fail; what can fail (allocation, loading) returns Result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/type.h"

namespace hearth {

class Buffer {
 public:
  virtual ~Buffer() = default;
  [[nodiscard]] virtual int64_t bytes() const = 0;
};

// A matrix [rows][k] in the backend's own layout, or several of one shape (`slices`: the experts of a mixture).
class Weight {
 public:
  virtual ~Weight() = default;
  [[nodiscard]] virtual int64_t rows() const = 0;  // output width
  [[nodiscard]] virtual int64_t cols() const = 0;  // input width, K
  [[nodiscard]] virtual int slices() const = 0;
  [[nodiscard]] virtual int64_t bytes() const = 0;
  // Whether it is nested (tensor/panel.h), so that it can be read at 4 bits, without its low planes, too. That takes a moment
  // and holds from the next operation on.
  [[nodiscard]] virtual bool has_low() const = 0;
  virtual void read_low(bool on) = 0;
  // One of the slices of a weight that was loaded from panels lies here from the next operation on: the same bytes, aligned as they were.
  virtual void place(int slice, std::span<const std::byte> panels) = 0;
};

// A matrix as it lies in a model file: `rows` rows of row_bytes(type, cols) bytes, in each of `slices` slices.
struct WeightSource {
  Type type = Type::kF32;
  int64_t rows = 0, cols = 0;
  int slices = 1;
  std::vector<std::span<const std::byte>> data;  // one per slice
  std::string name{};                            // of the tensor, for people and for those who look on
  // The slices are panels (tensor/panel.h) instead, at multiples of kPanelAlignment, and stay readable as long as the weight
  // lives: a pack's, which need no laying out.
  bool panels = false;
  // Called from any thread with parts of `data` that will not be read again, so that their pages can be let go. May be empty.
  std::function<void(std::span<const std::byte>)> consumed;
};

struct Rows {
  Buffer* buffer = nullptr;
  int64_t offset = 0;  // floats from the start of the buffer
  int n = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  // The same rows, columns [begin, begin + count).
  [[nodiscard]] Rows columns(int64_t begin, int64_t count) const { return {buffer, offset + begin, n, count, stride}; }
  [[nodiscard]] Rows rows(int begin, int count) const { return {buffer, offset + begin * stride, count, cols, stride}; }
};

// i4: the fewest bytes; keys and values are kept rotated (Hadamard), which attention undoes.
enum class KvType : uint8_t { kF16, kI8, kI4 };
inline constexpr KvType kAllKvTypes[] = {KvType::kF16, KvType::kI8, KvType::kI4};
std::string_view name(KvType type);
Result<KvType> parse_kv_type(std::string_view name);

enum class GluKind : uint8_t { kSilu, kGeluTanh };
enum class RopeStyle : uint8_t { kHalves, kInterleaved };  // pairs (i, i + dims / 2), or (2i, 2i + 1)

// Where one layer's keys and values are: page p begins at p * page_stride + offset of the buffer.
struct KvLayer {
  Buffer* buffer = nullptr;
  int64_t page_stride = 0, offset = 0;  // bytes
  KvType type = KvType::kF16;
  int n_kv_heads = 0, head_dim = 0;
};
inline constexpr int kKvPagePositions = 32;

// Rows of a batch that continue one sequence: rows [first_row, first_row + count) are at positions position, position + 1, ...
struct SequenceRows {
  int first_row = 0, count = 0;
  int position = 0;
  std::span<const int32_t> pages;  // page ids, by position / kKvPagePositions
  int32_t state_slot = -1;         // of recurrent layers
  int32_t sequence = -1;           // its number in the store; backends have no use for it
};

struct AttentionParams {
  float scale = 1.0f;
  float soft_cap = 0.0f;  // 0: none
  int window = 0;         // a query at p sees keys at positions > p - window; 0: all
};

// The rows a product reads: x, or with `norm` (one weight per column) rms_norm(x).
struct LinearInput {
  Rows x;
  const Buffer* norm = nullptr;
  float norm_eps = 0.0f;
};

// One matrix product of linear(): out (+)= in * weight^T (+ bias).
struct LinearPart {
  const Weight* weight = nullptr;
  const Buffer* bias = nullptr;  // f32 [weight rows], or null
  Rows out;
  bool accumulate = false;
};

// down * (act(gate * in) * (up * in))
struct FeedForwardParams {
  const Weight* gate = nullptr;  // [d_ffn][d_model]
  const Weight* up = nullptr;
  const Weight* down = nullptr;  // [d_model][d_ffn]
  GluKind glu = GluKind::kSilu;
};

// Experts that are not all in memory. For each layer request(), once rows were routed, then ready() until it gives none.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  // Expert i of the layer is needed for rows_of[i] of so many rows.
  virtual void request(int layer, int rows, std::span<const int> rows_of) = 0;
  // Of those needed some that are in memory until the next call, where their weights were placed; each comes once. Waits for one.
  virtual std::span<const int> ready() = 0;
};

struct ExpertParams {
  const Weight* router = nullptr;  // [n_experts][d_model]
  FeedForwardParams experts;       // n_experts slices each
  int n_used = 0;
  bool softmax_before_top_k = true;  // probabilities over all experts; else over the chosen ones only
  bool normalise = true;             // the chosen experts' weights add up to 1
  float scale = 1.0f;
  ExpertSource* source = nullptr;  // null: all are in memory
  int layer = 0;                   // as the source counts them
};

// What happens to queries and keys before attention: rms_norm of each head, then its first `rope_dims` rotated.
struct HeadParams {
  const Buffer *q_norm = nullptr, *k_norm = nullptr;  // null: none
  float norm_eps = 0.0f;
  int rope_dims = 0;  // 0: none
  RopeStyle rope_style = RopeStyle::kHalves;
  Rows cos_sin{};  // one row per row of the batch: [cos rope_dims / 2][sin rope_dims / 2]
};

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // For `doctor` and logs, for instance "avx2, 2 threads".
  [[nodiscard]] virtual std::string describe() const = 0;
  // Computes with so many of its threads from now on, 0: with all. Changes no result.
  virtual void use_threads(int /*n*/) {}
  // Computes on these processors from now on, with a thread for each at most, by whoever drives it and between operations.
  virtual void use_cores(std::span<const int> /*cpus*/) {}
  // Keeps the calling thread, which is to drive it, where its own threads are.
  virtual void keep_caller() const {}

  // Zeroed; pages of a large buffer take memory only once they are written.
  virtual Result<std::unique_ptr<Buffer>> allocate(int64_t bytes) = 0;
  // These two also from other threads, for bytes that no operation under way reads or writes.
  virtual void upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> data) = 0;
  virtual void download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> data) = 0;
  virtual void copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t bytes) = 0;
  // What is there will not be read again before it is written: its memory may go back to the system.
  virtual void discard(Buffer& /*buffer*/, int64_t /*offset_bytes*/, int64_t /*bytes*/) {}
  // Lays a matrix out for this device. The source is not needed afterwards, unless it is in panels.
  virtual Result<std::unique_ptr<Weight>> load(const WeightSource& source) = 0;
  // Bytes load() will take.
  [[nodiscard]] virtual int64_t weight_bytes(const WeightSource& source) const = 0;
  // Bytes of one page of one layer.
  [[nodiscard]] virtual int64_t kv_page_bytes(const KvLayer& layer) const = 0;

  // out[r] = scale * table[ids[r]]
  virtual void embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) = 0;
  // out = x / rms(x) * weight. out may be x.
  virtual void rms_norm(Rows x, const Buffer& weight, float eps, Rows out) = 0;
  virtual void linear(const LinearInput& in, std::span<const LinearPart> parts) = 0;
  // out (+)= the feed-forward of `in`.
  virtual void feed_forward(const LinearInput& in, const FeedForwardParams& params, Rows out, bool accumulate) = 0;
  // out = act(gate) * up. out may be gate.
  virtual void glu(Rows gate, Rows up, GluKind kind, Rows out) = 0;
  // x += scale * y, or with `norm` scale * rms_norm(y).
  virtual void add(Rows x, const LinearInput& y, float scale) = 0;
  // x = cap * tanh(x * scale / cap), or x * scale with cap 0
  virtual void scale(Rows x, float scale, float cap) = 0;
  virtual void gather(Rows x, std::span<const int32_t> rows, Rows out) = 0;
  // The `count` largest elements of each row of scale(in * weight^T), largest first, of equal ones the lower column first, NaN last:
  // columns and values [rows][count], to the host. Nothing as wide as the weight is written.
  virtual void largest(const LinearInput& in, const Weight& weight, float scale, float cap, int count,
                       std::span<int32_t> columns, std::span<float> values) = 0;
  // Norms and rotates queries (n_heads * head_dim wide) and keys in place, and writes keys and values to their pages.
  virtual void kv_write(const KvLayer& layer, Rows q, Rows k, Rows v, std::span<const SequenceRows> sequences,
                        const HeadParams& heads) = 0;
  // q: n_heads * head_dim wide. Keys and values of the rows themselves are written before.
  virtual void attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences,
                         const AttentionParams& params, Rows out) = 0;
  // x += scale * the mixture of experts of `in`.
  virtual void experts(const LinearInput& in, const ExpertParams& params, Rows x, float scale) = 0;
  // Causal depthwise convolution of LFM2: with x = [b, c, u] (each d wide), y = b * u; out = c * sum over t of kernel[i][t] *
  // y[p - (taps - 1) + t]. The last taps - 1 rows of y per sequence live in `state` at state_slot * state_stride + offset (floats).
  virtual void short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state,
                          int64_t state_stride, int64_t state_offset, std::span<const SequenceRows> sequences,
                          Rows out) = 0;
};

struct BackendOptions {
  int n_threads = 1;
  std::string isa;  // of the CPU backend: empty = the fastest supported
};

// One entry per kind of device built in. "cpu" is the default; "reference" is the scalar definition of every result.
struct BackendInfo {
  std::string_view name;
  Result<std::unique_ptr<Backend>> (*create)(const BackendOptions& options);
};
std::span<const BackendInfo> all_backends();
Result<std::unique_ptr<Backend>> create_backend(std::string_view name, const BackendOptions& options);

}  // namespace hearth
