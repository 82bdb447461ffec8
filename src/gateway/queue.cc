#include "gateway/queue.h"

#include <algorithm>
#include <fstream>

namespace hearth::gateway {
namespace {

// Order is that of `number`, never of a clock. `size` is what a record takes, roughly: its texts and a row's overhead.
constexpr const char* kSchema = R"(
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA wal_autocheckpoint = 128;
  CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT, signal TEXT, class INTEGER,
    type INTEGER, value TEXT, time_ms INTEGER, quality INTEGER, size INTEGER);
  CREATE UNIQUE INDEX IF NOT EXISTS once ON record (receiver, signal, time_ms, value);
  CREATE INDEX IF NOT EXISTS by_receiver ON record (receiver, number);
  CREATE INDEX IF NOT EXISTS by_class ON record (class, number);
)";
// What is set aside at `reserve` for the day the disk is full: more than the journal holds, so that it can go into the file.
constexpr size_t kReserveBytes = 2u << 20;
constexpr size_t kRowBytes = 120;  // of a row and its places in the indices

// Exactly: what is read back is the same value.
std::string written(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "1" : "0";
  if (const double* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  return std::get<std::string>(value);
}

Value read_back(int64_t type, const Database::Statement& row, int column) {
  if (type == static_cast<int64_t>(SignalType::kBool)) return row.number(column) != 0;
  if (type == static_cast<int64_t>(SignalType::kNumber)) return row.real(column);
  return row.text(column);
}

}  // namespace

Result<std::unique_ptr<RecordQueue>> RecordQueue::open(const std::filesystem::path& path, const Options& options) {
  auto database = TRY(Database::open(path, "the queue", kSchema));
  std::unique_ptr<RecordQueue> queue(new RecordQueue(std::move(database), options));
  queue->reserve_ = path.string() + ".reserve";
  queue->reserve();
  TRY(queue->count_all());
  TRY(queue->trim());
  return queue;
}

Result<void> RecordQueue::count_all() {
  Database::Statement select(*database_, "SELECT class, count(*), sum(size) FROM record GROUP BY class");
  figures_.records = figures_.bytes = {};
  while (TRY(select.step())) {
    const auto at = static_cast<size_t>(std::clamp<int64_t>(select.number(0), 0, 2));
    figures_.records[at] = static_cast<uint64_t>(select.number(1));
    figures_.bytes[at] = static_cast<uint64_t>(select.number(2));
  }
  return {};
}

Result<void> RecordQueue::insert(std::span<Record> records) {
  QueueFigures after = figures_;
  const auto kept = database_->transaction([&]() -> Result<void> {
    Database::Statement statement(
        *database_,
        "INSERT OR IGNORE INTO record (receiver, signal, class, type, value, time_ms, quality, size) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    for (Record& record : records) {
      const std::string value = written(record.value);
      const size_t size = kRowBytes + 2 * (record.to.size() + record.signal.size() + value.size());
      const auto at = static_cast<size_t>(record.record_class);
      statement.reset();
      TRY(statement.bind(record.to)
              .bind(record.signal)
              .bind(static_cast<int64_t>(at))
              .bind(static_cast<int64_t>(record.value.index()))
              .bind(value)
              .bind(record.time_ms)
              .bind(static_cast<int64_t>(record.quality))
              .bind(static_cast<int64_t>(size))
              .finish());
      record.number = database_->changes() == 0 ? 0 : database_->last_row();
      if (record.number == 0)
        ++after.repeated;
      else
        ++after.records[at], after.bytes[at] += size;
    }
    return {};
  });
  if (kept) figures_ = after;
  return kept;
}

Result<void> RecordQueue::push(std::span<Record> records) {
  if (records.empty()) return {};
  const std::scoped_lock lock(mutex_);
  const bool must_stay =
      std::ranges::any_of(records, [](const Record& each) { return each.record_class == RecordClass::kA; });
  TRY(database_->run(must_stay ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"));
  if (full_ && ++pushes_while_full_ % 256 == 0) reserve();
  auto kept = insert(records);
  if (!kept && !full_) {
    TRY(become_full());
    kept = insert(records);
  }
  const auto lowest = std::ranges::min_element(records, {}, [](const Record& each) { return each.record_class; });
  for (size_t from = 3; !kept && from-- > static_cast<size_t>(lowest->record_class);) {
    if (figures_.records[from] == 0 || !drop(from, 64u << 10)) continue;
    kept = insert(records);
  }
  if (!kept) {
    ++figures_.not_kept;
    return kept;
  }
  return trim();
}

// From now on the file does not grow: a row finds a place where another was, or none.
Result<void> RecordQueue::become_full() {
  std::error_code ignored;
  std::filesystem::remove(reserve_, ignored);
  TRY(database_->run("PRAGMA wal_checkpoint(TRUNCATE)"));
  int64_t pages = 0;
  {
    Database::Statement count(*database_, "PRAGMA page_count");
    if (TRY(count.step())) pages = count.number(0);
  }
  TRY(database_->run(fmt::format("PRAGMA max_page_count = {}", pages).c_str()));
  full_ = true;
  return {};
}

// If the disk has room for it again, it is not full any more.
void RecordQueue::reserve() {
  std::ofstream file(reserve_, std::ios::binary | std::ios::trunc);
  file << std::string(kReserveBytes, '\0') << std::flush;
  if (!file) {
    std::error_code ignored;
    std::filesystem::remove(reserve_, ignored);
    return;
  }
  full_ = !database_->run("PRAGMA max_page_count = 1073741823");
}

Result<void> RecordQueue::trim() {
  for (size_t at = 0; at < figures_.bytes.size(); ++at)
    if (figures_.bytes[at] > options_.bytes_max[at]) {
      // A little more than needed, so that not every record that comes drops one.
      TRY(drop(at, figures_.bytes[at] - options_.bytes_max[at] + options_.bytes_max[at] / 64));
    }
  return {};
}

Result<void> RecordQueue::drop(size_t record_class, uint64_t bytes) {
  Database::Statement select(*database_, "SELECT number, size FROM record WHERE class = ? ORDER BY number");
  select.bind(static_cast<int64_t>(record_class));
  uint64_t count = 0, freed = 0;
  int64_t last = 0;
  while (freed < bytes && TRY(select.step())) {
    last = select.number(0);
    freed += static_cast<uint64_t>(select.number(1));
    ++count;
  }
  select.reset();
  if (count == 0) return {};
  Database::Statement remove(*database_, "DELETE FROM record WHERE class = ? AND number <= ?");
  TRY(remove.bind(static_cast<int64_t>(record_class)).bind(last).finish());
  figures_.dropped[record_class] += count;
  figures_.records[record_class] -= count, figures_.bytes[record_class] -= freed;
  return {};
}

Result<std::vector<Record>> RecordQueue::next(std::string_view to, size_t most) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_,
                             "SELECT number, signal, class, type, value, time_ms, quality FROM record "
                             "WHERE receiver = ? ORDER BY number LIMIT ?");
  select.bind(to).bind(static_cast<int64_t>(most));
  std::vector<Record> records;
  while (TRY(select.step())) {
    Record record{std::string(to),  select.text(1), RecordClass::kC, read_back(select.number(3), select, 4),
                  select.number(5), Quality::kBad,  select.number(0)};
    record.record_class = static_cast<RecordClass>(std::clamp<int64_t>(select.number(2), 0, 2));
    record.quality = static_cast<Quality>(std::clamp<int64_t>(select.number(6), 0, 3));
    records.push_back(std::move(record));
  }
  return records;
}

Result<void> RecordQueue::remove(const std::string& where, const std::function<void(Database::Statement&)>& bind) {
  const std::scoped_lock lock(mutex_);
  Database::Statement sums(*database_,
                           "SELECT class, count(*), sum(size) FROM record WHERE " + where + " GROUP BY class");
  bind(sums);
  QueueFigures after = figures_;
  while (TRY(sums.step())) {
    const auto at = static_cast<size_t>(std::clamp<int64_t>(sums.number(0), 0, 2));
    after.records[at] -= static_cast<uint64_t>(sums.number(1));
    after.bytes[at] -= static_cast<uint64_t>(sums.number(2));
  }
  Database::Statement rows(*database_, "DELETE FROM record WHERE " + where);
  bind(rows);
  TRY(rows.finish());
  figures_ = after;
  return {};
}

Result<void> RecordQueue::done(std::string_view to, int64_t up_to) {
  return remove("receiver = ? AND number <= ?", [&](Database::Statement& rows) { rows.bind(to).bind(up_to); });
}

Result<void> RecordQueue::done(const Record& record) {
  return remove("number = ?", [&](Database::Statement& rows) { rows.bind(record.number); });
}

uint64_t RecordQueue::waiting(std::string_view to) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, "SELECT count(*) FROM record WHERE receiver = ?");
  const auto row = select.bind(to).step();
  return row && *row ? static_cast<uint64_t>(select.number(0)) : 0;
}

QueueFigures RecordQueue::figures() const {
  const std::scoped_lock lock(mutex_);
  return figures_;
}

}  // namespace hearth::gateway
