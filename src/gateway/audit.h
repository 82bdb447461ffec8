// What was decided, asked, done and refused, as rows that hang together: each has the HMAC of its content and of the row before, so
// that a row that was changed, taken out or put in is found by who has the key. (Rows cut off at the end leave no trace in the
// file: compare the last row's digest with one noted elsewhere.)
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
#include "store/database.h"
#include "vault/key.h"

namespace hearth::gateway {

struct AuditRow {
  int64_t number = 0, time_ms = 0;
  std::string kind, what;  // "decision", "request", ...; JSON
  std::string digest;      // 64 hex digits
};

struct AuditReport {
  int64_t rows = 0;
  std::string head;               // the last row's digest
  std::optional<int64_t> broken;  // the first row that does not fit
};

// Any thread.
class Audit {
 public:
  // The database and the key beside it (audit.key) are made if they are missing.
  static Result<std::unique_ptr<Audit>> open(const std::filesystem::path& folder);

  // Kept in memory until flush() has put all rows on disk in one transaction. Rows that could not be written wait for the next flush().
  void add(int64_t time_ms, std::string_view kind, std::string what);
  Result<void> flush();
  [[nodiscard]] Result<AuditReport> verify() const;
  [[nodiscard]] Result<std::vector<AuditRow>> last(size_t count) const;  // newest first

 private:
  Audit(std::unique_ptr<Database> database, const Key& key) : database_(std::move(database)), key_(key) {}
  [[nodiscard]] std::string digest_of(std::string_view before, const AuditRow& row) const;

  mutable std::mutex mutex_;
  std::unique_ptr<Database> database_;
  Key key_;
  int64_t number_ = 0;
  std::string head_;
  std::vector<AuditRow> waiting_;
};

}  // namespace hearth::gateway
