#include "gateway/audit.h"

#include "base/log.h"

namespace hearth::gateway {
namespace {

constexpr const char* kSchema = R"(
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, time_ms INTEGER, kind TEXT, what TEXT, digest TEXT);
)";
constexpr std::string_view kColumns = "SELECT number, time_ms, kind, what, digest FROM audit ";
constexpr size_t kWaitingMax = 100'000;

AuditRow row_of(const Database::Statement& row) {
  return {row.number(0), row.number(1), row.text(2), row.text(3), row.text(4)};
}

}  // namespace

Result<std::unique_ptr<Audit>> Audit::open(const std::filesystem::path& folder) {
  const Key key = TRY(Key::load_or_create(folder / "audit.key"));
  auto database = TRY(Database::open(folder / "audit.db", "the audit", kSchema));
  std::unique_ptr<Audit> audit(new Audit(std::move(database), key));
  const auto newest = TRY(audit->last(1));
  if (!newest.empty()) audit->number_ = newest[0].number, audit->head_ = newest[0].digest;
  return audit;
}

std::string Audit::digest_of(std::string_view before, const AuditRow& row) const {
  return key_.name_of(fmt::format("{}\n{}\n{}\n{}\n{}", before, row.number, row.time_ms, row.kind, row.what));
}

void Audit::add(int64_t time_ms, std::string_view kind, std::string what) {
  const std::scoped_lock lock(mutex_);
  if (waiting_.size() >= kWaitingMax) return;  // the disk has been full for long; nobody acts while it is
  AuditRow row{++number_, time_ms, std::string(kind), std::move(what), {}};
  head_ = row.digest = digest_of(head_, row);
  waiting_.push_back(std::move(row));
}

Result<void> Audit::flush() {
  const std::scoped_lock lock(mutex_);
  if (waiting_.empty()) return {};
  const auto written = database_->transaction([&]() -> Result<void> {
    Database::Statement insert(*database_, "INSERT INTO audit VALUES (?, ?, ?, ?, ?)");
    for (const AuditRow& row : waiting_) {
      insert.reset();
      TRY(insert.bind(row.number).bind(row.time_ms).bind(row.kind).bind(row.what).bind(row.digest).finish());
    }
    return {};
  });
  if (written) waiting_.clear();
  return written;
}

Result<AuditReport> Audit::verify() const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, std::string(kColumns) + "ORDER BY number");
  AuditReport report;
  while (TRY(select.step())) {
    const AuditRow row = row_of(select);
    if (!report.broken && (row.number != report.rows + 1 || row.digest != digest_of(report.head, row)))
      report.broken = row.number;
    report.head = row.digest;
    ++report.rows;
  }
  return report;
}

Result<std::vector<AuditRow>> Audit::last(size_t count) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, std::string(kColumns) + "ORDER BY number DESC LIMIT ?");
  select.bind(static_cast<int64_t>(count));
  std::vector<AuditRow> rows;
  while (TRY(select.step())) rows.push_back(row_of(select));
  return rows;
}

}  // namespace hearth::gateway
