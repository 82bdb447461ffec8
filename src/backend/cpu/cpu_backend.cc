#include "backend/cpu/cpu_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cpu/math8.h"
#include "base/check.h"
#include "base/checked.h"
#include "base/limits.h"

namespace hearth::cpu {
namespace {

// Waking a worker costs some microseconds; less work than this stays on the calling thread.
constexpr int64_t kWorthWakingNs = 20'000;

constexpr size_t kHugePageBytes = 2 << 20;

}  // namespace

Result<Memory> Memory::allocate(int64_t bytes) {
  Memory memory;
  if (bytes <= 0) return memory;
  void* data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    return fail(Code::kLimit, "cannot get {} bytes of memory; use a smaller context or model", bytes);
  memory.data_ = static_cast<std::byte*>(data);
  memory.bytes_ = bytes;
  return memory;
}

Result<Memory> Memory::allocate_huge(int64_t bytes) {
  if (bytes < static_cast<int64_t>(kHugePageBytes)) return allocate(bytes);
  Memory memory = TRY(allocate(bytes + static_cast<int64_t>(kHugePageBytes)));
  // Begins at a multiple of the huge page; the room on both sides goes back.
  const size_t before = (kHugePageBytes - reinterpret_cast<uintptr_t>(memory.data_) % kHugePageBytes) % kHugePageBytes;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t used = before + (static_cast<size_t>(bytes) + page - 1) / page * page;
  const size_t all = (static_cast<size_t>(memory.bytes_) + page - 1) / page * page;
  if (before > 0) ::munmap(memory.data_, before);
  if (used < all) ::munmap(memory.data_ + used, all - used);
  memory.data_ += before;
  memory.bytes_ = bytes;
#ifdef MADV_HUGEPAGE
  ::madvise(memory.data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish: without it, small pages
#endif
  return memory;
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Memory::~Memory() {
  if (data_) ::munmap(data_, static_cast<size_t>(bytes_));
}

CpuWeight::CpuWeight(const TypeInfo& type, int64_t rows, int64_t cols, int slices, Memory memory)
    : type_(&type), rows_(rows), cols_(cols), slices_(slices), memory_(std::move(memory)) {}

CpuBackend::CpuBackend(const Kernels& kernels, int n_threads)
    : kernels_(kernels),
      pool_(n_threads),
      thread_scratch_(static_cast<size_t>(n_threads)),
      thread_floats_(static_cast<size_t>(n_threads)) {}

std::string CpuBackend::describe() const { return fmt::format("{}, {} threads", kernels_.isa, pool_.n_threads()); }

Result<std::unique_ptr<Buffer>> CpuBackend::allocate(int64_t bytes) {
  return std::make_unique<CpuBuffer>(TRY(Memory::allocate(bytes)));
}

void CpuBackend::upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> from) {
  CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(from.size()) <= buffer.bytes());
  if (!from.empty()) std::memcpy(data(buffer) + offset_bytes, from.data(), from.size());
}

void CpuBackend::download(const Buffer& buffer, int64_t offset_bytes, std::span<std::byte> to) {
  CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(to.size()) <= buffer.bytes());
  if (!to.empty()) std::memcpy(to.data(), data(buffer) + offset_bytes, to.size());
}

void CpuBackend::copy(const Buffer& from, int64_t from_bytes, Buffer& to, int64_t to_bytes, int64_t count) {
  CHECK(from_bytes >= 0 && from_bytes + count <= from.bytes() && to_bytes >= 0 && to_bytes + count <= to.bytes());
  std::memmove(data(to) + to_bytes, data(from) + from_bytes, static_cast<size_t>(count));
}

int64_t CpuBackend::weight_bytes(const WeightSource& source) const {
  return source.slices * ((source.rows + kPanelRows - 1) / kPanelRows) *
         info(source.type).panel.panel_bytes(source.cols);
}

Result<std::unique_ptr<Weight>> CpuBackend::load(const WeightSource& source) {
  const TypeInfo& type = info(source.type);
  const auto row = row_bytes(type, static_cast<uint64_t>(source.cols));
  if (!row)
    return fail(Code::kMalformed, "{} rows of {} elements: the length is not a multiple of {}", type.name, source.cols,
                type.block);
  const Checked need = Checked(*row) * source.rows * source.slices;
  if (!need.at_most(source.data.size()) || source.rows <= 0 || source.slices <= 0)
    return fail(Code::kMalformed, "a matrix of {} x {} x {} {} needs more than its {} bytes", source.slices,
                source.rows, source.cols, type.name, source.data.size());
  auto weight = std::make_unique<CpuWeight>(type, source.rows, source.cols, source.slices,
                                            TRY(Memory::allocate_huge(weight_bytes(source))));
  const int64_t per_slice = weight->n_panels();
  constexpr int64_t kPanelsAtOnce = 64;
  pool_.parallel_for(per_slice * source.slices, kPanelsAtOnce, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t slice = panel / per_slice, first = panel % per_slice * kPanelRows;
      const int rows = static_cast<int>(std::min<int64_t>(kPanelRows, source.rows - first));
      const std::byte* from = source.data.data() + static_cast<uint64_t>(slice * source.rows + first) * *row;
      std::byte* to = weight->slice(static_cast<int>(slice)) + panel % per_slice * weight->panel_bytes();
      pack_panel(type, from, *row, rows, source.cols, to);
    }
    auto first_row = [&](int64_t panel) {
      return panel / per_slice * source.rows + std::min(source.rows, panel % per_slice * kPanelRows);
    };
    const auto from = static_cast<uint64_t>(first_row(begin)) * *row, to = static_cast<uint64_t>(first_row(end)) * *row;
    if (source.consumed) source.consumed(source.data.subspan(from, to - from));
  });
  return weight;
}

void CpuBackend::for_rows(int m, int64_t cost_per_row, const std::function<void(int)>& body) {
  if (m == 1 || m * cost_per_row < kWorthWakingNs) {
    for (int row = 0; row < m; ++row) body(row);
    return;
  }
  const int64_t grain = std::max<int64_t>(1, m / (4 * pool_.n_threads()));
  pool_.parallel_for(m, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) body(static_cast<int>(row));
  });
}

void CpuBackend::embed(const Weight& table, std::span<const int32_t> ids, float scale, Rows out) {
  const auto& weight = static_cast<const CpuWeight&>(table);
  for_rows(out.n, 2 * out.cols, [&](int r) {
    const int64_t id = ids[static_cast<size_t>(r)];
    float* to = floats(out) + r * out.stride;
    unpack_panel_row(weight.format(), weight.slice(0) + id / kPanelRows * weight.panel_bytes(),
                     static_cast<int>(id % kPanelRows), weight.cols(), to);
    if (scale != 1.0f)
      for (int64_t i = 0; i < out.cols; ++i) to[i] *= scale;
  });
}

void CpuBackend::rms_norm(Rows x, const Buffer& weight, int64_t width, float eps, Rows out) {
  for_rows(x.n, x.cols / 2, [&](int r) {
    const float* from = floats(x) + r * x.stride;
    float* to = floats(out) + r * out.stride;
    for (int64_t i = 0; i < x.cols; i += width) kernels_.rms_norm(from + i, floats(weight), width, eps, to + i);
  });
}

void CpuBackend::prepare(Operand& x, std::span<const Product> products, Scratch<std::byte>& scratch) {
  if (std::ranges::all_of(products, [](const Product& p) { return p.weight->format().is_float(); })) return;
  const int64_t groups = x.k / kGroup;
  const int64_t code_bytes = x.m * x.k, scale_bytes = x.m * groups * 4;
  std::byte* memory = scratch.at_least(code_bytes + scale_bytes + x.m * groups * 4 + 128);
  memory += (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
  x.quantized = {reinterpret_cast<int8_t*>(memory), reinterpret_cast<float*>(memory + code_bytes),
                 reinterpret_cast<int16_t*>(memory + code_bytes + scale_bytes), x.k};
  if (x.m * x.k / 8 < kWorthWakingNs) return kernels_.quantize_rows(x.x, x.stride, x.m, x.quantized);
  for_rows(x.m, x.k / 4, [&](int r) {
    const QuantizedRows& q = x.quantized;
    kernels_.quantize_rows(x.x + r * x.stride, x.stride, 1,
                           {q.codes + r * x.k, q.scales + r * groups, q.sums + 2 * r * groups, x.k});
  });
}

void CpuBackend::multiply(const Operand& x, std::span<const Product> products) {
  int64_t n_panels = 0;
  for (const Product& product : products) n_panels += product.weight->n_panels();
  // Enough pieces that a thread held up by something else does not hold up all; not so many that handing out costs.
  const int64_t grain = std::max<int64_t>(1, n_panels / (pool_.n_threads() * 6));
  pool_.parallel_for(n_panels, grain, [&](int64_t begin, int64_t end, int thread) {
    int64_t first = 0;
    for (const Product& product : products) {
      const int64_t count = product.weight->n_panels();
      const int64_t from = std::max(begin, first) - first, to = std::min(end, first + count) - first;
      first += count;
      if (from >= to) continue;
      const CpuWeight& weight = *product.weight;
      std::byte* scratch = thread_scratch_[static_cast<size_t>(thread)].at_least(matmul_scratch_bytes(x.k) + 64);
      scratch += (64 - reinterpret_cast<uintptr_t>(scratch) % 64) % 64;
      find_matmul(kernels_, weight.format())(weight.format(), {.panels = weight.slice(product.slice),
                                                               .panel_stride = weight.panel_bytes(),
                                                               .rows = weight.rows(),
                                                               .k = x.k,
                                                               .panel_begin = from,
                                                               .panel_end = to,
                                                               .m = x.m,
                                                               .x = x.x,
                                                               .x_stride = x.stride,
                                                               .xq = x.quantized,
                                                               .out = product.out,
                                                               .out_stride = product.out_stride,
                                                               .epilogue = product.epilogue,
                                                               .scratch = scratch});
    }
  });
}

void CpuBackend::linear(Rows x, std::span<const LinearPart> parts) {
  constexpr size_t kPartsMax = 8;
  CHECK(parts.size() <= kPartsMax);
  std::array<Product, kPartsMax> products;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearPart& part = parts[i];
    CHECK(part.weight->cols() == x.cols && part.weight->rows() == part.out.cols);
    products[i] = {.weight = static_cast<const CpuWeight*>(part.weight),
                   .slice = 0,
                   .out = floats(part.out),
                   .out_stride = part.out.stride,
                   .epilogue = {part.bias ? floats(*part.bias) : nullptr, part.accumulate}};
  }
  const std::span used(products.data(), parts.size());
  Operand operand{.x = floats(x), .stride = x.stride, .k = x.cols, .m = x.n};
  prepare(operand, used, quantized_);
  multiply(operand, used);
}

void CpuBackend::rope(Rows x, int head_dim, int dims, RopeStyle style, Rows cos_sin) {
  const int half = dims / 2;
  const int step = style == RopeStyle::kHalves ? 1 : 2, apart = style == RopeStyle::kHalves ? half : 1;
  for_rows(x.n, x.cols, [&](int r) {
    const float* cos = floats(cos_sin) + r * cos_sin.stride;
    const float* sin = cos + half;
    for (float *head = floats(x) + r * x.stride, *end = head + x.cols; head < end; head += head_dim) {
      for (int i = 0; i < half; ++i) {
        const float a = head[i * step], b = head[i * step + apart];
        head[i * step] = a * cos[i] - b * sin[i];
        head[i * step + apart] = a * sin[i] + b * cos[i];
      }
    }
  });
}

void CpuBackend::glu(GluKind kind, Rows gate, Rows up, Rows out) {
  const auto activation = kind == GluKind::kSilu ? Activation::kSilu : Activation::kGeluTanh;
  for_rows(gate.n, 2 * gate.cols, [&](int r) {
    kernels_.glu(activation, floats(gate) + r * gate.stride, floats(up) + r * up.stride, gate.cols,
                 floats(out) + r * out.stride);
  });
}

void CpuBackend::add(Rows x, Rows y, float scale) {
  for_rows(x.n, x.cols / 2, [&](int r) {
    float* to = floats(x) + r * x.stride;
    const float* from = floats(y) + r * y.stride;
    if (scale == 1.0f) {
      for (int64_t i = 0; i < x.cols; ++i) to[i] += from[i];
    } else {
      for (int64_t i = 0; i < x.cols; ++i) to[i] += scale * from[i];
    }
  });
}

void CpuBackend::scale(Rows x, float scale, float cap) {
  for_rows(x.n, cap != 0.0f ? 4 * x.cols : x.cols / 4, [&](int r) {
    float* to = floats(x) + r * x.stride;
    if (cap == 0.0f) {
      for (int64_t i = 0; i < x.cols; ++i) to[i] *= scale;
    } else {
      for (int64_t i = 0; i < x.cols; ++i) to[i] = cap * tanh_f32(to[i] * scale / cap);
    }
  });
}

void CpuBackend::gather(Rows x, std::span<const int32_t> rows, Rows out) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(floats(out) + static_cast<int64_t>(i) * out.stride, floats(x) + rows[i] * x.stride,
                static_cast<size_t>(x.cols) * sizeof(float));
}

void CpuBackend::short_conv(Rows x, const Buffer& kernel, const Buffer* bias, int taps, Buffer& state,
                            int64_t state_stride, int64_t state_offset, std::span<const SequenceRows> sequences,
                            Rows out) {
  const int64_t d = out.cols;
  const float* weights = floats(kernel);  // [d][taps]
  const int history = taps - 1;
  for (const SequenceRows& sequence : sequences) {
    float* past = reinterpret_cast<float*>(data(state)) + sequence.state_slot * state_stride +
                  state_offset;  // [history][d], oldest first
    for (int r = sequence.first_row; r < sequence.first_row + sequence.count; ++r) {
      const float *b = floats(x) + r * x.stride, *c = b + d, *u = c + d;
      float* to = floats(out) + r * out.stride;
      for (int64_t i = 0; i < d; ++i) {
        const float y = b[i] * u[i];
        float sum = bias ? floats(*bias)[i] : 0.0f;
        for (int t = 0; t < history; ++t) sum += weights[i * taps + t] * past[t * d + i];
        sum += weights[i * taps + history] * y;
        to[i] = c[i] * sum;
        for (int t = 0; t + 1 < history; ++t) past[t * d + i] = past[(t + 1) * d + i];
        if (history > 0) past[(history - 1) * d + i] = y;
      }
    }
  }
}

Result<std::unique_ptr<Backend>> create_cpu_backend(const BackendOptions& options) {
  if (options.n_threads < 1 || options.n_threads > 1024)
    return fail(Code::kInvalidArgument, "{} threads; use 1 to 1024", options.n_threads);
  const Kernels* kernels = options.isa.empty() ? best_kernels() : find_kernels(options.isa);
  if (!kernels) {
    std::string known;
    for (const Kernels* each : all_kernels())
      if (each->supported()) known += fmt::format(" {}", each->isa);
    return fail(Code::kUnsupported, "instruction set '{}' is not available; this machine has:{}", options.isa, known);
  }
  return std::make_unique<CpuBackend>(*kernels, options.n_threads);
}

}  // namespace hearth::cpu
