// The memory of this process as the kernel sees it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace hearth {

// What is resident, own memory and mapped files together; 0 where the kernel does not tell.
uint64_t resident_bytes();
// Gives what was freed back to the kernel.
void trim_memory();

// Whole pages, zero, in large ones where the kernel has them. Movable.
class PageMemory {
 public:
  // kLimit if there is not so much.
  static Result<PageMemory> allocate(uint64_t bytes);
  PageMemory() = default;
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;
  ~PageMemory();
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace hearth
