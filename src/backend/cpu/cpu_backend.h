// The CPU as a Backend: the kernels of one instruction set, a thread pool, and weights in panels.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "base/process_memory.h"
#include "base/thread_pool.h"

namespace hearth::cpu {

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(PageMemory memory) : memory_(std::move(memory)) {}
  [[nodiscard]] int64_t bytes() const override { return memory_.bytes(); }
  [[nodiscard]] std::byte* data() const { return memory_.data(); }
  void discard(int64_t offset, int64_t bytes) const { memory_.discard(offset, bytes); }

 private:
  PageMemory memory_;
};

// Where this backend's memory is; only its own files ask.
inline std::byte* data(const Buffer& buffer) { return static_cast<const CpuBuffer&>(buffer).data(); }
inline const float* floats(const Buffer& buffer) { return reinterpret_cast<const float*>(data(buffer)); }
inline float* floats(const Rows& rows) { return reinterpret_cast<float*>(data(*rows.buffer)) + rows.offset; }

// Panels of all slices, in memory of its own or where a pack is mapped. A nested format's low panels follow the others of
// their slice and are not touched while they are switched off.
class CpuWeight final : public Weight {
 public:
  CpuWeight(const TypeInfo& type, int64_t rows, int64_t cols, int slices);
  [[nodiscard]] int64_t rows() const override { return rows_; }
  [[nodiscard]] int64_t cols() const override { return cols_; }
  [[nodiscard]] int slices() const override { return slices_; }
  [[nodiscard]] int64_t bytes() const override { return slices_ * slice_bytes(); }
  [[nodiscard]] bool has_low() const override { return type_->panel.has_low; }
  void read_low(bool on) override { format_ = on ? type_->panel : type_->panel.high(); }
  void place(int slice, std::span<const std::byte> panels) override;
  [[nodiscard]] const PanelFormat& format() const { return format_; }
  [[nodiscard]] int64_t n_panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  [[nodiscard]] int64_t panel_bytes() const { return format_.panel_bytes(cols_); }
  [[nodiscard]] int64_t slice_bytes() const { return type_->panel.matrix_bytes(n_panels(), cols_); }
  [[nodiscard]] const std::byte* panel(int slice, int64_t index) const {
    return panels_[static_cast<size_t>(slice)] + index * panel_bytes();
  }
  // Null where none is read.
  [[nodiscard]] const std::byte* low_panel(int slice, int64_t index) const {
    if (!format_.has_low) return nullptr;
    return panels_[static_cast<size_t>(slice)] + format_.low_offset(n_panels(), cols_) +
           index * format_.low_bytes(cols_);
  }
  // Gives the slices their places, one after the other in memory that it keeps.
  void own(PageMemory memory);
  // Gives the slices their places; kMalformed if one has another size or alignment than it must have.
  Result<void> refer(std::span<const std::span<const std::byte>> panels);

 private:
  const TypeInfo* type_;
  PanelFormat format_;  // that is read
  int64_t rows_, cols_;
  int slices_;
  std::vector<const std::byte*> panels_;  // of each slice
  PageMemory memory_;                     // empty: panels_ are someone else's
};

// Rows of activations as the kernels want them: floats, codes, or both.
struct Operand {
  const float* x = nullptr;
  int64_t stride = 0, k = 0;
  int m = 0;
  QuantizedRows codes{};

  [[nodiscard]] Operand rows(int64_t first, int count) const {
    return {x ? x + first * stride : nullptr, stride, k, count, codes.codes ? codes.from_row(first) : QuantizedRows{}};
  }
};

// One product of several that run in one loop.
struct Product {
  const Operand* in = nullptr;
  const CpuWeight* weight = nullptr;
  int slice = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  Epilogue epilogue;
};

// out = act(gate * in) * (up * in), as floats or as codes, whichever its pointer is set.
struct GatedProduct {
  const Operand* in = nullptr;
  const CpuWeight *gate = nullptr, *up = nullptr;
  int slice = 0;
  float* out = nullptr;  // [m][d_ffn]
  QuantizedRows codes{};
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

// Room for every thread before a loop: whether a step allocates may not depend on who takes which piece.
template <typename T>
void reserve(std::vector<Scratch<T>>& threads, int64_t n) {
  for (Scratch<T>& each : threads) each.at_least(n);
}

inline constexpr int64_t kCacheLine = 64;
// Room for `bytes` at the start of a cache line.
inline std::byte* aligned(Scratch<std::byte>& scratch, int64_t bytes) {
  std::byte* memory = scratch.at_least(bytes + kCacheLine);
  return memory + (kCacheLine - reinterpret_cast<uintptr_t>(memory) % kCacheLine) % kCacheLine;
}

// A column of a row of scores.
struct Candidate {
  float value;
  int32_t column;
};

// One thread's best candidates of each row.
struct BestRows {
  std::vector<Candidate> candidates;  // [row][count], best first
  std::vector<int> n;                 // of each row
};

inline Activation activation_of(GluKind kind) {
  return kind == GluKind::kSilu ? Activation::kSilu : Activation::kGeluTanh;
}

// A product's part of a loop: how many units, and what one costs.
struct Share {
  int64_t units = 0, unit_cost = 0;
};

// Handing out costs a fraction of a microsecond while the workers spin, some when they sleep; less work than this stays on the
// calling thread.
inline constexpr int64_t kWorthSharingNs = 5'000;

struct ExpertScratch;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, int n_threads);
  ~CpuBackend() override;

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  [[nodiscard]] std::string describe() const override;
  void use_threads(int n) override;
  void use_cores(std::span<const int> cpus) override;
  void keep_caller() const override;
  Result<std::unique_ptr<Buffer>> allocate(int64_t bytes) override;
  void upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> data) override;
  void download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> data) override;
  void discard(Buffer& buffer, int64_t offset_bytes, int64_t bytes) override;
  void copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t bytes) override;
  Result<std::unique_ptr<Weight>> load(const WeightSource& source) override;
  [[nodiscard]] int64_t weight_bytes(const WeightSource& source) const override;
  [[nodiscard]] int64_t kv_page_bytes(const KvLayer& layer) const override;

  void embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) override;
  void rms_norm(Rows x, const Buffer& weight, float eps, Rows out) override;
  void linear(const LinearInput& in, std::span<const LinearPart> parts) override;
  void feed_forward(const LinearInput& in, const FeedForwardParams& params, Rows out, bool accumulate) override;
  void add(Rows x, const LinearInput& y, float scale) override;
  void glu(Rows gate, Rows up, GluKind kind, Rows out) override;
  void scale(Rows x, float scale, float cap) override;
  void gather(Rows x, std::span<const int32_t> rows, Rows out) override;
  void largest(const LinearInput& in, const Weight& weight, float scale, float cap, int count,
               std::span<int32_t> columns, std::span<float> values) override;
  void kv_write(const KvLayer& layer, Rows q, Rows k, Rows v, std::span<const SequenceRows> sequences,
                const HeadParams& heads) override;
  void attention(const KvLayer& layer, Rows q, std::span<const SequenceRows> sequences, const AttentionParams& params,
                 Rows out) override;
  void experts(const LinearInput& in, const ExpertParams& params, Rows x, float scale) override;
  void short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state, int64_t state_stride,
                  int64_t state_offset, std::span<const SequenceRows> sequences, Rows out) override;

 private:
  // Runs body(row, thread) for each of m rows, on the workers only if the whole is worth waking them (`cost`: about one
  // per nanosecond).
  void for_rows(int m, int64_t cost_per_row, FunctionRef<void(int row, int thread)> body);
  // The input in the forms wanted, normed and quantised row by row in one pass; lives in scratch until the next call.
  Operand prepare(const LinearInput& in, bool wants_floats, bool wants_codes);
  // Calls body(product, begin, end, thread) so that each product's units [0, units(product)) are covered, in pieces of
  // about equal cost.
  void share_out(std::span<const Share> shares,
                 FunctionRef<void(size_t product, int64_t begin, int64_t end, int thread)> body);
  // All products in one loop; all gated products in one loop.
  void multiply(std::span<const Product> products);
  void multiply_gated(std::span<const GatedProduct> products, Activation activation);
  void gated_units(const GatedProduct& product, Activation activation, int first_column, int columns, int64_t begin,
                   int64_t end, int thread);
  Operand hidden_rows(int m, const CpuWeight& down);
  Operand gather_by_expert(const Operand& all, bool wants_floats);
  // The products of some experts with their rows, which lie sorted by expert.
  void multiply_experts(std::span<const int> experts, const Operand& inputs, const Operand& hidden,
                        const FeedForwardParams& weights, float* results);
  void multiply_panels(const Operand& in, const CpuWeight& weight, int slice, int64_t panel_begin, int64_t panel_end,
                       float* out, int64_t out_stride, const Epilogue& epilogue, int thread);
  void place_heads(Rows rows, int r, const Buffer* norm, const HeadParams& heads, int head_dim) const;
  void write_kv_row(const KvLayer& layer, Rows k, Rows v, int row, int32_t page, int slot, int thread);

  const Kernels& kernels_;
  ThreadPool pool_;
  int threads_most_;  // of the pool's: as many as there are cores to use
  Scratch<float> normed_, partials_;
  Scratch<std::byte> codes_, hidden_;
  std::vector<Scratch<std::byte>> thread_scratch_;
  std::vector<Scratch<float>> thread_floats_;
  std::unique_ptr<ExpertScratch> expert_scratch_;
  std::vector<BestRows> best_;  // of largest(), by thread
  std::vector<Share> shares_;
};

Result<std::unique_ptr<Backend>> create_cpu_backend(const BackendOptions& options);

}  // namespace hearth::cpu
