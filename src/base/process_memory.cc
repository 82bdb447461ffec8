#include "base/process_memory.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace hearth {
namespace {

constexpr size_t kHugePageBytes = 2 << 20;

}  // namespace

ResidentMemory resident_memory() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (!file) return {};
  unsigned long long size = 0, resident = 0, shared = 0;
  const int read = std::fscanf(file, "%llu %llu %llu", &size, &resident, &shared);
  std::fclose(file);
  if (read != 3 || shared > resident) return {};
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return {.own = (resident - shared) * page, .files = shared * page};
}

void trim_memory() { ::malloc_trim(0); }

void keep_large_blocks_apart() { ::mallopt(M_MMAP_THRESHOLD, 128 << 10); }

Result<PageMemory> PageMemory::allocate(int64_t bytes) {
  PageMemory memory;
  if (bytes <= 0) return memory;
  void* data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    return fail(Code::kLimit, "cannot get {} bytes of memory; use a smaller context or model", bytes);
  memory.data_ = static_cast<std::byte*>(data);
  memory.bytes_ = bytes;
  return memory;
}

Result<PageMemory> PageMemory::allocate_huge(int64_t bytes) {
  if (bytes < static_cast<int64_t>(kHugePageBytes)) return allocate(bytes);
  PageMemory memory = TRY(allocate(bytes + static_cast<int64_t>(kHugePageBytes)));
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

void PageMemory::discard(int64_t offset, int64_t bytes) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t from = reinterpret_cast<uintptr_t>(data_) + static_cast<uintptr_t>(offset);
  const uintptr_t begin = (from + page - 1) / page * page, end = (from + static_cast<uintptr_t>(bytes)) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PageMemory::~PageMemory() {
  if (data_) ::munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace hearth
