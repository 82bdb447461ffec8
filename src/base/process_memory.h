// The memory of this process as the kernel sees it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace hearth {

// What is resident; zeros where the kernel does not tell.
struct ResidentMemory {
  uint64_t own = 0;    // anonymous
  uint64_t files = 0;  // pages of mapped files and shared memory: they can go
};
ResidentMemory resident_memory();
inline uint64_t resident_bytes() {
  const ResidentMemory memory = resident_memory();
  return memory.own + memory.files;
}
// Gives what was freed back to the kernel.
void trim_memory();
// For the whole process, before threads: blocks of 128 KiB and more always lie apart and go back when they are freed. By default the C
// library puts larger ones, too, among the small ones once it has seen such a block freed, and after a few models nothing goes back.
void keep_large_blocks_apart();

// Anonymous memory, zeroed by the system, taken page by page as it is written.
class PageMemory {
 public:
  static Result<PageMemory> allocate(int64_t bytes);
  // For what will be written whole: in huge pages where the system has them, so that first writing to it takes hundreds
  // of times fewer page faults. A rest of less than a huge page lies in small ones: no more becomes resident than `bytes`.
  static Result<PageMemory> allocate_huge(int64_t bytes);
  PageMemory() = default;
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;
  ~PageMemory();
  // Whole pages of the system within a range go back to it; they are zero when they are used again.
  void discard(int64_t offset, int64_t bytes) const;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace hearth
