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
};

// A matrix as it lies in a model file: `slices` times `rows` rows of row_bytes(type, cols) bytes each.
struct WeightSource {
  Type type = Type::kF32;
  int64_t rows = 0, cols = 0;
  int slices = 1;
  std::span<const std::byte> data;
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

enum class KvType : uint8_t { kF16, kI8 };
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
};

struct AttentionParams {
  float scale = 1.0f;
  float soft_cap = 0.0f;  // 0: none
  int window = 0;         // a query at p sees keys at positions > p - window; 0: all
};

// One matrix product of linear(): out (+)= x * weight^T (+ bias).
struct LinearPart {
  const Weight* weight = nullptr;
  const Buffer* bias = nullptr;  // f32 [weight rows], or null
  Rows out;
  bool accumulate = false;
};

struct ExpertParams {
  const Weight* gate = nullptr;  // n_experts slices [d_expert][d_model]
  const Weight* up = nullptr;
  const Weight* down = nullptr;  // n_experts slices [d_model][d_expert]
  GluKind glu = GluKind::kSilu;
  int n_used = 0;
  bool softmax_before_top_k = true;  // probabilities over all experts; else over the chosen ones only
  bool normalise = true;             // the chosen experts' weights add up to 1
  float scale = 1.0f;
};

class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  // For `doctor` and logs, for instance "avx2, 2 threads".
  [[nodiscard]] virtual std::string describe() const = 0;

  // Zeroed; pages of a large buffer take memory only once they are written.
  virtual Result<std::unique_ptr<Buffer>> allocate(int64_t bytes) = 0;
  virtual void upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> data) = 0;
  virtual void download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> data) = 0;
  virtual void copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t bytes) = 0;
  // Lays a matrix out for this device. The source is not needed afterwards.
  virtual Result<std::unique_ptr<Weight>> load(const WeightSource& source) = 0;
  // Bytes load() will take.
  [[nodiscard]] virtual int64_t weight_bytes(const WeightSource& source) const = 0;
  // Bytes of one page of one layer.
  [[nodiscard]] virtual int64_t kv_page_bytes(const KvLayer& layer) const = 0;

  // out[r] = scale * table[ids[r]]
  virtual void embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) = 0;
  // Each row is cols / width pieces of `width`, normalised alone: out = x / rms(x) * weight. out may be x.
  virtual void rms_norm(Rows x, const Buffer& weight, int64_t width, float eps, Rows out) = 0;
  virtual void linear(Rows x, std::span<const LinearPart> parts) = 0;
  // Rotates the first `dims` of each head of head_dim; cos_sin: one row per row of x, [cos dims / 2][sin dims / 2].
  virtual void rope(Rows x, int head_dim, int dims, RopeStyle style, Rows cos_sin) = 0;
  // out = act(gate) * up; out may be gate.
  virtual void glu(GluKind kind, Rows gate, Rows up, Rows out) = 0;
  // x += scale * y
  virtual void add(Rows x, Rows y, float scale) = 0;
  // x = cap * tanh(x * scale / cap), or x * scale with cap 0
  virtual void scale(Rows x, float scale, float cap) = 0;
  virtual void gather(Rows x, std::span<const int32_t> rows, Rows out) = 0;
  virtual void kv_write(const KvLayer& layer, Rows k, Rows v, std::span<const SequenceRows> sequences) = 0;
  // q: n_heads * head_dim wide. Keys and values of the rows themselves are written before.
  virtual void attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences,
                         const AttentionParams& params, Rows out) = 0;
  // out = mixture of experts of x, by router logits (n_experts wide).
  virtual void experts(Rows x, Rows router_logits, const ExpertParams& params, Rows out) = 0;
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
