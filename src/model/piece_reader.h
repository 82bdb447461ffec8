// Parts of a file read by several threads at once, past the page cache, into memory that is there already.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/direct_file.h"
#include "base/function_ref.h"
#include "base/result.h"

namespace hearth {

// Requests and waits come from one thread. A disk that no longer reads ends the program, as it does for mapped packs (mapped_guard.h).
class PieceReader {
 public:
  static constexpr uint64_t kPage = DirectFile::kAlignment;
  // What is waited for together; written by the readers, read in wait().
  struct Load {
    size_t missing = 0;  // pieces still to come
  };
  enum class Turn : uint8_t { kNow, kAhead };  // before or behind all that is read ahead of use

  static Result<std::unique_ptr<PieceReader>> open(const std::filesystem::path& path);
  ~PieceReader();
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  // `offset`, `into` and its size are multiples of kPage; what lies behind the file's end stays as it is.
  void request(Load& load, uint64_t offset, std::span<std::byte> into, Turn turn);
  // Until `done`, which is asked under the readers' lock: now, and whenever a load has no missing pieces any more.
  void wait(FunctionRef<bool()> done);
  // Counts up only; any thread.
  [[nodiscard]] uint64_t read_bytes() const { return read_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Piece {
    uint64_t offset = 0;
    std::span<std::byte> into;
    Load* load = nullptr;
  };
  explicit PieceReader(DirectFile file);
  void work();

  DirectFile file_;
  std::mutex mutex_;
  std::condition_variable wake_, arrived_;
  std::deque<Piece> now_, ahead_;
  std::atomic<uint64_t> read_bytes_{0};
  bool stop_ = false;
  std::vector<std::jthread> readers_;
};

}  // namespace hearth
