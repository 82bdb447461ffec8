#include "store/batch_journal.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>

#include "base/check.h"
#include "store/database.h"
#include "vault/sealed.h"

namespace hearth {
namespace {

constexpr std::array<std::string_view, 4> kStateNames{"in_progress", "cancelling", "cancelled", "completed"};
constexpr const char* kSchema = R"(
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA foreign_keys = ON;
  CREATE TABLE IF NOT EXISTS file (id TEXT PRIMARY KEY, tenant TEXT, name TEXT, purpose TEXT, bytes INTEGER, created INTEGER,
    content BLOB);
  CREATE TABLE IF NOT EXISTS batch (number INTEGER PRIMARY KEY, id TEXT UNIQUE, tenant TEXT, endpoint TEXT, input_file TEXT,
    output_file TEXT DEFAULT '', error_file TEXT DEFAULT '', metadata TEXT, state INTEGER, created INTEGER, ended INTEGER DEFAULT 0);
  CREATE TABLE IF NOT EXISTS line (batch INTEGER REFERENCES batch(number), position INTEGER, custom_id TEXT, body BLOB,
    success INTEGER, result BLOB, PRIMARY KEY (batch, position)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS unanswered ON line (batch, position) WHERE success IS NULL;
)";
constexpr const char* kBatchColumns =
    "SELECT b.number, b.id, b.tenant, b.endpoint, b.input_file, b.output_file, b.error_file, b.metadata, b.state, "
    "b.created, "
    "b.ended, (SELECT count(*) FROM line l WHERE l.batch = b.number), "
    "(SELECT count(*) FROM line l WHERE l.batch = b.number AND l.success = 1), "
    "(SELECT count(*) FROM line l WHERE l.batch = b.number AND l.success = 0) FROM batch b ";

int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string new_id(std::string_view kind) {
  std::array<std::byte, 16> bytes;
  fill_random(bytes);
  std::string id(kind);
  for (const std::byte byte : bytes) id += fmt::format("{:02x}", std::to_integer<int>(byte));
  return id;
}

std::string purpose_of(std::string_view tenant) { return fmt::format("batches of {}", tenant); }

}  // namespace

std::string_view name(BatchState state) { return kStateNames[static_cast<size_t>(state)]; }

namespace {

BatchJob batch_of(const Database::Statement& row) {
  BatchJob batch;
  batch.id = row.text(1), batch.tenant = row.text(2), batch.endpoint = row.text(3), batch.input_file = row.text(4);
  batch.output_file = row.text(5), batch.error_file = row.text(6), batch.metadata_json = row.text(7);
  batch.state = static_cast<BatchState>(row.number(8) & 3);
  batch.created = row.number(9), batch.ended = row.number(10);
  batch.total = static_cast<int>(row.number(11)), batch.completed = static_cast<int>(row.number(12));
  batch.failed = static_cast<int>(row.number(13));
  return batch;
}

JobFile file_of(const Database::Statement& row) {
  return {row.text(0), row.text(1), row.text(2), row.text(3), row.number(4), row.number(5)};
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

BatchJournal::BatchJournal(std::unique_ptr<Database> database, const Key& key)
    : database_(std::move(database)), key_(key) {}
BatchJournal::~BatchJournal() = default;

Result<std::unique_ptr<BatchJournal>> BatchJournal::open(const std::filesystem::path& path, const Key& key) {
  auto database = TRY(Database::open(path, "the journal of batches", kSchema));
  return std::unique_ptr<BatchJournal>(new BatchJournal(std::move(database), key));
}

Result<JobFile> BatchJournal::add_file(JobFile file, std::string_view content) {
  file.id = new_id("file-");
  file.bytes = static_cast<int64_t>(content.size());
  file.created = now();
  const auto sealed = seal(key_, purpose_of(file.tenant), std::as_bytes(std::span(content)));
  const std::scoped_lock lock(mutex_);
  Database::Statement insert(*database_, "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)");
  TRY(insert.bind(file.id)
          .bind(file.tenant)
          .bind(file.name)
          .bind(file.purpose)
          .bind(file.bytes)
          .bind(file.created)
          .bind(std::span(sealed))
          .finish());
  return file;
}

Result<JobFile> BatchJournal::file(std::string_view tenant, std::string_view id) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_,
                             "SELECT id, tenant, name, purpose, bytes, created FROM file WHERE tenant = ? AND id = ?");
  if (!TRY(select.bind(tenant).bind(id).step())) return fail(Code::kNotFound, "no file {}", id);
  return file_of(select);
}

Result<std::string> BatchJournal::content(std::string_view tenant, std::string_view id) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, "SELECT content FROM file WHERE tenant = ? AND id = ?");
  if (!TRY(select.bind(tenant).bind(id).step())) return fail(Code::kNotFound, "no file {}", id);
  const auto plain = TRY(unseal(key_, purpose_of(tenant), select.blob(0)));
  return text_of(plain);
}

Result<std::vector<JobFile>> BatchJournal::files(std::string_view tenant) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(
      *database_, "SELECT id, tenant, name, purpose, bytes, created FROM file WHERE tenant = ? ORDER BY rowid DESC");
  std::vector<JobFile> files;
  for (select.bind(tenant); TRY(select.step());) files.push_back(file_of(select));
  return files;
}

Result<void> BatchJournal::remove_file(std::string_view tenant, std::string_view id) {
  TRY(file(tenant, id));
  const std::scoped_lock lock(mutex_);
  return Database::Statement(*database_, "DELETE FROM file WHERE tenant = ? AND id = ?").bind(tenant).bind(id).finish();
}

Result<BatchJob> BatchJournal::add_batch(BatchJob batch, const std::vector<NewLine>& lines) {
  batch.id = new_id("batch_");
  batch.created = now();
  batch.total = static_cast<int>(lines.size());
  const std::scoped_lock lock(mutex_);
  auto added = database_->transaction([&]() -> Result<void> {
    Database::Statement insert(
        *database_,
        "INSERT INTO batch (id, tenant, endpoint, input_file, metadata, state, created) VALUES (?, ?, ?, ?, ?, ?, ?)");
    TRY(insert.bind(batch.id)
            .bind(batch.tenant)
            .bind(batch.endpoint)
            .bind(batch.input_file)
            .bind(batch.metadata_json)
            .bind(static_cast<int64_t>(batch.state))
            .bind(batch.created)
            .finish());
    const int64_t number = database_->last_row();
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto sealed = seal(key_, purpose_of(batch.tenant), std::as_bytes(std::span(lines[i].body)));
      Database::Statement line(*database_, "INSERT INTO line (batch, position, custom_id, body) VALUES (?, ?, ?, ?)");
      TRY(line.bind(number).bind(static_cast<int64_t>(i)).bind(lines[i].custom_id).bind(std::span(sealed)).finish());
    }
    return {};
  });
  if (!added) return std::unexpected(added.error());
  return batch;
}

Result<BatchJob> BatchJournal::batch(std::string_view tenant, std::string_view id) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, std::string(kBatchColumns) + "WHERE b.tenant = ? AND b.id = ?");
  if (!TRY(select.bind(tenant).bind(id).step())) return fail(Code::kNotFound, "no batch {}", id);
  return batch_of(select);
}

Result<std::vector<BatchJob>> BatchJournal::batches(std::string_view tenant) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(*database_, std::string(kBatchColumns) + "WHERE b.tenant = ? ORDER BY b.number DESC");
  std::vector<BatchJob> batches;
  for (select.bind(tenant); TRY(select.step());) batches.push_back(batch_of(select));
  return batches;
}

Result<void> BatchJournal::cancel(std::string_view tenant, std::string_view id) {
  TRY(batch(tenant, id));
  const std::scoped_lock lock(mutex_);
  return Database::Statement(*database_, "UPDATE batch SET state = 1 WHERE tenant = ? AND id = ? AND state = 0")
      .bind(tenant)
      .bind(id)
      .finish();
}

Result<std::vector<BatchLine>> BatchJournal::waiting(size_t count,
                                                     const std::vector<std::pair<std::string, int>>& running) const {
  const std::scoped_lock lock(mutex_);
  Database::Statement select(
      *database_,
      "SELECT b.id, b.tenant, b.endpoint, l.custom_id, l.body, l.position FROM batch b JOIN line l ON "
      "l.batch = b.number WHERE b.state = 0 AND l.success IS NULL ORDER BY b.number, l.position");
  std::vector<BatchLine> lines;
  while (lines.size() < count && TRY(select.step())) {
    BatchLine line{
        select.text(0), select.text(1), select.text(2), select.text(3), "", static_cast<int>(select.number(5))};
    if (std::ranges::find(running, std::pair(line.batch, line.index)) != running.end()) continue;
    line.body = text_of(TRY(unseal(key_, purpose_of(line.tenant), select.blob(4))));
    lines.push_back(std::move(line));
  }
  return lines;
}

Result<void> BatchJournal::answer(const BatchLine& line, bool success, std::string_view result) {
  const std::scoped_lock lock(mutex_);
  return database_->transaction([&]() -> Result<void> {
    const auto sealed = seal(key_, purpose_of(line.tenant), std::as_bytes(std::span(result)));
    Database::Statement update(
        *database_,
        "UPDATE line SET success = ?, result = ? WHERE batch = (SELECT number FROM batch WHERE id = ?) "
        "AND position = ? AND success IS NULL");
    TRY(update.bind(int64_t{success}).bind(std::span(sealed)).bind(line.batch).bind(int64_t{line.index}).finish());
    Database::Statement select(*database_, std::string(kBatchColumns) + "WHERE b.id = ?");
    if (!TRY(select.bind(line.batch).step())) return {};
    const BatchJob batch = batch_of(select);
    if (batch.state != BatchState::kInProgress || batch.completed + batch.failed < batch.total) return {};
    return end(batch, BatchState::kCompleted);
  });
}

Result<void> BatchJournal::end_cancelled() {
  const std::scoped_lock lock(mutex_);
  std::vector<BatchJob> cancelled;
  Database::Statement select(*database_, std::string(kBatchColumns) + "WHERE b.state = 1");
  while (TRY(select.step())) cancelled.push_back(batch_of(select));
  for (const BatchJob& batch : cancelled)
    TRY(database_->transaction([&] { return end(batch, BatchState::kCancelled); }));
  return {};
}

// With the lock held, within a transaction.
Result<void> BatchJournal::end(const BatchJob& batch, BatchState state) {
  const std::string output = TRY(add_result_file(batch, true)), errors = TRY(add_result_file(batch, false));
  Database::Statement update(*database_,
                             "UPDATE batch SET state = ?, ended = ?, output_file = ?, error_file = ? WHERE id = ?");
  return update.bind(static_cast<int64_t>(state)).bind(now()).bind(output).bind(errors).bind(batch.id).finish();
}

// The id of a file of all results, or errors; "" if there are none.
Result<std::string> BatchJournal::add_result_file(const BatchJob& batch, bool success) {
  Database::Statement select(
      *database_,
      "SELECT result FROM line WHERE batch = (SELECT number FROM batch WHERE id = ?) AND success = ? "
      "ORDER BY position");
  std::string content;
  for (select.bind(batch.id).bind(int64_t{success}); TRY(select.step());)
    content += text_of(TRY(unseal(key_, purpose_of(batch.tenant), select.blob(0)))) + "\n";
  if (content.empty()) return std::string();
  const auto sealed = seal(key_, purpose_of(batch.tenant), std::as_bytes(std::span(content)));
  const std::string id = new_id("file-");
  const std::string name = batch.id + (success ? "_output.jsonl" : "_error.jsonl");
  Database::Statement insert(*database_, "INSERT INTO file VALUES (?, ?, ?, 'batch_output', ?, ?, ?)");
  TRY(insert.bind(id)
          .bind(batch.tenant)
          .bind(name)
          .bind(static_cast<int64_t>(content.size()))
          .bind(now())
          .bind(std::span(sealed))
          .finish());
  return id;
}

}  // namespace hearth
