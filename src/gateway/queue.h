// Samples that could not be passed on yet, on disk (SQLite, WAL) and in order. What is kept has a bound per class; when one is reached
// the oldest of that class go and are counted. When the disk is full the lowest class that is there goes first.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/signal.h"
#include "store/database.h"

namespace hearth::gateway {

// A sample on its way to an adapter. Names instead of ids, since a profile may change while it waits.
struct Record {
  std::string to, signal;  // adapter, signal
  RecordClass record_class = RecordClass::kB;
  Value value;
  int64_t time_ms = 0;
  Quality quality = Quality::kGood;
  int64_t number = 0;  // its place in the order; given by the queue
};

struct QueueFigures {
  std::array<uint64_t, 3> records{}, bytes{}, dropped{};  // by class; dropped since the start
  uint64_t repeated = 0;                                  // came again while they were waiting
  uint64_t not_kept = 0;                                  // times that the disk refused
};

// Any thread.
class RecordQueue {
 public:
  struct Options {
    std::array<uint64_t, 3> bytes_max{64u << 20, 32u << 20, 16u << 20};
  };
  // What was waiting when the process ended, however it ended, waits again.
  static Result<std::unique_ptr<RecordQueue>> open(const std::filesystem::path& path, const Options& options);

  // On disk when it returns (flushed where there is one of class A), all or nothing. A record that waits already (same adapter, signal,
  // time and value) is not kept twice. kIo if the disk refuses even after lower classes were dropped for them.
  // Gives each its number (0: it waited already).
  Result<void> push(std::span<Record> records);
  // The oldest that wait for this adapter.
  [[nodiscard]] Result<std::vector<Record>> next(std::string_view to, size_t most) const;
  // These arrived: records of next(), up to and including this number.
  Result<void> done(std::string_view to, int64_t up_to);
  Result<void> done(const Record& record);  // of push()
  [[nodiscard]] uint64_t waiting(std::string_view to) const;
  [[nodiscard]] QueueFigures figures() const;

 private:
  RecordQueue(std::unique_ptr<Database> database, const Options& options)
      : database_(std::move(database)), options_(options) {}
  Result<void> insert(std::span<Record> records);
  Result<void> remove(const std::string& where, const std::function<void(Database::Statement&)>& bind);
  Result<void> count_all();
  // The oldest of a class until `bytes` are free.
  Result<void> drop(size_t record_class, uint64_t bytes);
  Result<void> trim();
  Result<void> become_full();
  void reserve();

  mutable std::mutex mutex_;
  std::unique_ptr<Database> database_;
  Options options_;
  QueueFigures figures_;
  std::filesystem::path reserve_;
  bool full_ = false;  // the disk, so the file is kept from growing
  uint64_t pushes_while_full_ = 0;
};

}  // namespace hearth::gateway
