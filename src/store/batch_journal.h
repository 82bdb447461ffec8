// Jobs of many requests and the files they come from and lead to, on disk: what was accepted is not lost by a restart, and a line
// that was answered is not asked again.
//
// One SQLite database (WAL, flushed at each commit). Contents of files, requests and answers are sealed with the store's key; ids,
// times, counts and names are not. Any thread may call anything here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vault/key.h"

namespace hearth {

// Times are seconds since 1970; 0: has not happened.
struct JobFile {
  std::string id{}, tenant{}, name{}, purpose{};
  int64_t bytes = 0, created = 0;
};

enum class BatchState : uint8_t { kInProgress, kCancelling, kCancelled, kCompleted };
std::string_view name(BatchState state);

struct BatchJob {
  std::string id, tenant, endpoint, input_file, output_file, error_file, metadata_json;
  BatchState state = BatchState::kInProgress;
  int64_t created = 0, ended = 0;
  int total = 0, completed = 0, failed = 0;
};

// A request of a batch that waits for its answer.
struct BatchLine {
  std::string batch, tenant, endpoint, custom_id, body;
  int index = 0;
};

class Database;

class BatchJournal {
 public:
  // Makes the database if it is missing. kCorrupt or kIo with what SQLite says.
  static Result<std::unique_ptr<BatchJournal>> open(const std::filesystem::path& path, const Key& key);
  ~BatchJournal();
  BatchJournal(const BatchJournal&) = delete;
  BatchJournal& operator=(const BatchJournal&) = delete;

  Result<JobFile> add_file(JobFile file, std::string_view content);
  // Of this tenant; kNotFound otherwise, whoever else has one of that id.
  [[nodiscard]] Result<JobFile> file(std::string_view tenant, std::string_view id) const;
  [[nodiscard]] Result<std::string> content(std::string_view tenant, std::string_view id) const;
  [[nodiscard]] Result<std::vector<JobFile>> files(std::string_view tenant) const;
  Result<void> remove_file(std::string_view tenant, std::string_view id);

  struct NewLine {
    std::string custom_id, body;
  };
  // All lines or none. The id is made here.
  Result<BatchJob> add_batch(BatchJob batch, const std::vector<NewLine>& lines);
  [[nodiscard]] Result<BatchJob> batch(std::string_view tenant, std::string_view id) const;
  [[nodiscard]] Result<std::vector<BatchJob>> batches(std::string_view tenant) const;
  Result<void> cancel(std::string_view tenant, std::string_view id);

  // The next lines without an answer, of the oldest batches first; not those of `running` (batch, index).
  [[nodiscard]] Result<std::vector<BatchLine>> waiting(size_t count,
                                                       const std::vector<std::pair<std::string, int>>& running) const;
  // The answer of a line, as the line of the output file it becomes. The last one of a batch ends it and makes its files.
  Result<void> answer(const BatchLine& line, bool success, std::string_view result);
  // Ends batches that were cancelled and of which no line runs.
  Result<void> end_cancelled();

 private:
  BatchJournal(std::unique_ptr<Database> database, const Key& key);
  Result<void> end(const BatchJob& batch, BatchState state);
  Result<std::string> add_result_file(const BatchJob& batch, bool success);

  std::unique_ptr<Database> database_;
  const Key key_;
  mutable std::mutex mutex_;
};

}  // namespace hearth
