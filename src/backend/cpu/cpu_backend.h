// The CPU as a Backend: the kernels of one instruction set, a thread pool, and weights in panels.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "base/thread_pool.h"

namespace hearth::cpu {

// Anonymous memory, zeroed by the system, taken page by page as it is written.
class Memory {
 public:
  static Result<Memory> allocate(int64_t bytes);
  // For what will be written whole: in huge pages where the system has them, so that first writing to it takes hundreds
  // of times fewer page faults. A rest of less than a huge page lies in small ones: no more becomes resident than `bytes`.
  static Result<Memory> allocate_huge(int64_t bytes);
  Memory() = default;
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  ~Memory();
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(Memory memory) : memory_(std::move(memory)) {}
  [[nodiscard]] int64_t bytes() const override { return memory_.bytes(); }
  [[nodiscard]] std::byte* data() const { return memory_.data(); }

 private:
  Memory memory_;
};

// Where this backend's memory is; only its own files ask.
inline std::byte* data(const Buffer& buffer) { return static_cast<const CpuBuffer&>(buffer).data(); }
inline const float* floats(const Buffer& buffer) { return reinterpret_cast<const float*>(data(buffer)); }
inline float* floats(const Rows& rows) { return reinterpret_cast<float*>(data(*rows.buffer)) + rows.offset; }

// Panels of all slices, one after the other.
class CpuWeight final : public Weight {
 public:
  CpuWeight(const TypeInfo& type, int64_t rows, int64_t cols, int slices, Memory memory);
  [[nodiscard]] int64_t rows() const override { return rows_; }
  [[nodiscard]] int64_t cols() const override { return cols_; }
  [[nodiscard]] int slices() const override { return slices_; }
  [[nodiscard]] int64_t bytes() const override { return slices_ * slice_bytes(); }
  [[nodiscard]] const PanelFormat& format() const { return type_->panel; }
  [[nodiscard]] int64_t n_panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  [[nodiscard]] int64_t panel_bytes() const { return type_->panel.panel_bytes(cols_); }
  [[nodiscard]] int64_t slice_bytes() const { return n_panels() * panel_bytes(); }
  [[nodiscard]] std::byte* slice(int index) const { return memory_.data() + index * slice_bytes(); }

 private:
  const TypeInfo* type_;
  int64_t rows_, cols_;
  int slices_;
  Memory memory_;
};

// Rows of activations as the kernels want them: floats, and their quantised form where a product needs it.
struct Operand {
  const float* x = nullptr;
  int64_t stride = 0, k = 0;
  int m = 0;
  QuantizedRows quantized{};
};

// One product of a batch of products that run together.
struct Product {
  const CpuWeight* weight = nullptr;
  int slice = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  Epilogue epilogue;
};

// Scratch that keeps its size between steps, so a step allocates only when it is larger than any before.
template <typename T>
class Scratch {
 public:
  T* at_least(int64_t n) {
    if (n > static_cast<int64_t>(storage_.size())) storage_.resize(static_cast<size_t>(n));
    return storage_.data();
  }

 private:
  std::vector<T> storage_;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, int n_threads);

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  [[nodiscard]] std::string describe() const override;
  Result<std::unique_ptr<Buffer>> allocate(int64_t bytes) override;
  void upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> data) override;
  void download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> data) override;
  void copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t bytes) override;
  Result<std::unique_ptr<Weight>> load(const WeightSource& source) override;
  [[nodiscard]] int64_t weight_bytes(const WeightSource& source) const override;
  [[nodiscard]] int64_t kv_page_bytes(const KvLayer& layer) const override;

  void embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) override;
  void rms_norm(Rows x, const Buffer& weight, int64_t width, float eps, Rows out) override;
  void linear(Rows x, std::span<const LinearPart> parts) override;
  void rope(Rows x, int head_dim, int dims, RopeStyle style, Rows cos_sin) override;
  void glu(GluKind kind, Rows gate, Rows up, Rows out) override;
  void add(Rows x, Rows y, float scale) override;
  void scale(Rows x, float scale, float cap) override;
  void gather(Rows x, std::span<const int32_t> rows, Rows out) override;
  void kv_write(const KvLayer& layer, Rows k, Rows v, std::span<const SequenceRows> sequences) override;
  void attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences, const AttentionParams& params,
                 Rows out) override;
  void experts(Rows x, Rows router_logits, const ExpertParams& params, Rows out) override;
  void short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state, int64_t state_stride,
                  int64_t state_offset, std::span<const SequenceRows> sequences, Rows out) override;

 private:
  // Runs body(row) for each of m rows, on the workers only if the whole is worth waking them (`cost`: about one per nanosecond).
  void for_rows(int m, int64_t cost_per_row, const std::function<void(int row)>& body);
  // Quantises the operand's rows into scratch if any of the products needs it.
  void prepare(Operand& x, std::span<const Product> products, Scratch<std::byte>& scratch);
  // All products of one operand, their panels shared out to the threads.
  void multiply(const Operand& x, std::span<const Product> products);
  const Kernels& kernels_;
  ThreadPool pool_;
  Scratch<std::byte> quantized_, expert_quantized_;
  Scratch<float> expert_rows_, partials_;
  std::vector<Scratch<std::byte>> thread_scratch_;
  std::vector<Scratch<float>> thread_floats_;
};

Result<std::unique_ptr<Backend>> create_cpu_backend(const BackendOptions& options);

}  // namespace hearth::cpu
