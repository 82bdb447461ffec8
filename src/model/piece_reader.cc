#include "model/piece_reader.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/check.h"

namespace hearth {
namespace {

constexpr int kReaders = 8;                // reads under way at once
constexpr uint64_t kAheadBytes = 1 << 20;  // of one read of what is needed later
constexpr uint64_t kNowBytes = 256 << 10;  // smaller, so that what is waited for is read by all

[[noreturn]] void end_program(const Error& error) {
  fmt::print(stderr, "hearth: weights can no longer be read: {}\n", error.message);
  std::_Exit(info(Code::kIo).exit_code);
}

}  // namespace

Result<std::unique_ptr<PieceReader>> PieceReader::open(const std::filesystem::path& path) {
  return std::unique_ptr<PieceReader>(new PieceReader(TRY(DirectFile::open(path))));
}

PieceReader::PieceReader(DirectFile file) : file_(std::move(file)) {
  for (int i = 0; i < kReaders; ++i) readers_.emplace_back([this] { work(); });
}

PieceReader::~PieceReader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  readers_.clear();
}

void PieceReader::request(Load& load, uint64_t offset, std::span<std::byte> into, Turn turn) {
  CHECK(offset % kPage == 0 && into.size() % kPage == 0);
  const uint64_t piece = turn == Turn::kNow ? kNowBytes : kAheadBytes;
  {
    const std::lock_guard lock(mutex_);
    for (uint64_t done = 0; done < into.size(); done += piece) {
      (turn == Turn::kNow ? now_ : ahead_)
          .push_back({offset + done, into.subspan(done, std::min(piece, into.size() - done)), &load});
      ++load.missing;
    }
  }
  wake_.notify_all();
}

void PieceReader::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || !now_.empty() || !ahead_.empty(); });
    if (stop_) return;
    std::deque<Piece>& queue = now_.empty() ? ahead_ : now_;
    const Piece piece = queue.front();
    queue.pop_front();
    lock.unlock();
    if (const auto done = file_.read(piece.offset, piece.into); !done) end_program(done.error());
    read_bytes_.fetch_add(piece.into.size(), std::memory_order_relaxed);
    lock.lock();
    if (--piece.load->missing == 0) arrived_.notify_all();
  }
}

void PieceReader::wait(FunctionRef<bool()> done) {
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [&] { return done(); });
}

}  // namespace hearth
