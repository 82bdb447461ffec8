#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cpu/cpu_experts.h"
#include "base/check.h"
#include "base/checked.h"
#include "base/limits.h"

namespace hearth::cpu {

CpuWeight::CpuWeight(const TypeInfo& type, int64_t rows, int64_t cols, int slices)
    : type_(&type), format_(type.panel), rows_(rows), cols_(cols), slices_(slices) {}

void CpuWeight::own(PageMemory memory) {
  memory_ = std::move(memory);
  for (int i = 0; i < slices_; ++i) panels_.push_back(memory_.data() + i * slice_bytes());
}

void CpuWeight::place(int slice, std::span<const std::byte> panels) {
  CHECK(memory_.bytes() == 0 && panels.size() == static_cast<size_t>(slice_bytes()) &&
        reinterpret_cast<uintptr_t>(panels.data()) % kPanelAlignment == 0);
  panels_[static_cast<size_t>(slice)] = panels.data();
}

Result<void> CpuWeight::refer(std::span<const std::span<const std::byte>> panels) {
  for (const auto& slice : panels) {
    if (slice.size() != static_cast<size_t>(slice_bytes()) ||
        reinterpret_cast<uintptr_t>(slice.data()) % kPanelAlignment != 0)
      return fail(Code::kMalformed, "panels of {} x {} {} have {} bytes, need {} at a multiple of {}", rows_, cols_,
                  type_->name, slice.size(), slice_bytes(), kPanelAlignment);
    panels_.push_back(slice.data());
  }
  return {};
}

CpuBackend::CpuBackend(const Kernels& kernels, int n_threads)
    : kernels_(kernels),
      pool_(n_threads, n_threads > 1 ? fast_cores() : FastCores{}),
      threads_most_(n_threads),
      thread_scratch_(static_cast<size_t>(n_threads)),
      thread_floats_(static_cast<size_t>(n_threads)),
      expert_scratch_(std::make_unique<ExpertScratch>()),
      best_(static_cast<size_t>(n_threads)) {}

CpuBackend::~CpuBackend() = default;

void CpuBackend::use_threads(int n) { pool_.use(n > 0 ? std::min(n, threads_most_) : threads_most_); }

void CpuBackend::use_cores(std::span<const int> cpus) {
  if (cpus.empty()) return;
  threads_most_ = std::min(pool_.n_threads(), static_cast<int>(cpus.size()));
  pool_.stay_on(cpus);
  pool_.use(threads_most_);
}

void CpuBackend::keep_caller() const {
  if (!pool_.keep_caller()) keep_on(fast_cores(), 1);
}

std::string CpuBackend::describe() const { return fmt::format("{}, {} threads", kernels_.isa, pool_.n_threads()); }

Result<std::unique_ptr<Buffer>> CpuBackend::allocate(int64_t bytes) {
  return std::make_unique<CpuBuffer>(TRY(PageMemory::allocate(bytes)));
}

void CpuBackend::upload(Buffer& buffer, int64_t offset_bytes, std::span<const std::byte> from) {
  CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(from.size()) <= buffer.bytes());
  if (!from.empty()) std::memcpy(data(buffer) + offset_bytes, from.data(), from.size());
}

void CpuBackend::discard(Buffer& buffer, int64_t offset_bytes, int64_t bytes) {
  CHECK(offset_bytes >= 0 && offset_bytes + bytes <= buffer.bytes());
  static_cast<const CpuBuffer&>(buffer).discard(offset_bytes, bytes);
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
  return source.slices * info(source.type).panel.matrix_bytes((source.rows + kPanelRows - 1) / kPanelRows, source.cols);
}

Result<std::unique_ptr<Weight>> CpuBackend::load(const WeightSource& source) {
  const TypeInfo& type = info(source.type);
  const auto row = row_bytes(type, static_cast<uint64_t>(source.cols));
  if (!row)
    return fail(Code::kMalformed, "{} rows of {} elements: the length is not a multiple of {}", type.name, source.cols,
                type.block);
  const Checked need = Checked(*row) * source.rows;
  if (source.rows <= 0 || source.slices <= 0 || source.data.size() != static_cast<size_t>(source.slices))
    return fail(Code::kMalformed, "a matrix of {} x {} x {} has {} slices", source.slices, source.rows, source.cols,
                source.data.size());
  auto weight = std::make_unique<CpuWeight>(type, source.rows, source.cols, source.slices);
  if (source.panels) {
    TRY(weight->refer(source.data));
    return weight;
  }
  for (const auto& slice : source.data)
    if (!need.at_most(slice.size()))
      return fail(Code::kMalformed, "a matrix of {} x {} {} needs more than its {} bytes", source.rows, source.cols,
                  type.name, slice.size());
  PageMemory memory = TRY(PageMemory::allocate_huge(weight_bytes(source)));
  std::byte* panels = memory.data();
  weight->own(std::move(memory));
  const int64_t per_slice = weight->n_panels();
  constexpr int64_t kPanelsAtOnce = 64;
  pool_.parallel_for(per_slice * source.slices, kPanelsAtOnce, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const auto slice = source.data[static_cast<size_t>(begin / per_slice)];
      const int64_t from = begin % per_slice, to = std::min(from + end - begin, per_slice);
      std::byte* at = panels + begin / per_slice * weight->slice_bytes();
      pack_panels(type, slice, source.rows, source.cols, from, to, at + from * weight->panel_bytes());
      if (type.panel.has_low)
        pack_panels(type, slice, source.rows, source.cols, from, to,
                    at + type.panel.low_offset(per_slice, source.cols) + from * type.panel.low_bytes(source.cols),
                    Plane::kLow);
      const auto first = static_cast<uint64_t>(from * kPanelRows) * *row,
                 last = static_cast<uint64_t>(std::min(source.rows, to * kPanelRows)) * *row;
      if (source.consumed) source.consumed(slice.subspan(first, last - first));
      begin += to - from;
    }
  });
  return weight;
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
