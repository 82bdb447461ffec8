#include "backend/cpu/cpu_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cpu/cpu_experts.h"
#include "base/check.h"
#include "base/checked.h"
#include "base/limits.h"

namespace hearth::cpu {
namespace {

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

CpuWeight::CpuWeight(const TypeInfo& type, int64_t rows, int64_t cols, int slices)
    : type_(&type), format_(type.panel), rows_(rows), cols_(cols), slices_(slices) {}

void CpuWeight::own(Memory memory) {
  memory_ = std::move(memory);
  for (int i = 0; i < slices_; ++i) panels_.push_back(memory_.data() + i * slice_bytes());
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
      thread_scratch_(static_cast<size_t>(n_threads)),
      thread_floats_(static_cast<size_t>(n_threads)),
      expert_scratch_(std::make_unique<ExpertScratch>()),
      best_(static_cast<size_t>(n_threads)) {}

CpuBackend::~CpuBackend() = default;

void CpuBackend::use_threads(int n) { pool_.use(n > 0 ? std::min(n, pool_.n_threads()) : pool_.n_threads()); }

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
  Memory memory = TRY(Memory::allocate_huge(weight_bytes(source)));
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
