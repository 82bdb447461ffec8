#include "store/database.h"

#include <sqlite3.h>
#include <sys/stat.h>

namespace hearth {

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& path, std::string_view what,
                                                 const char* schema) {
  std::unique_ptr<Database> database(new Database(what));
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW;
  if (sqlite3_open_v2(path.c_str(), &database->handle_, flags, nullptr) != SQLITE_OK)
    return database->error(path.string());
  ::chmod(path.c_str(), 0600);
  sqlite3_busy_timeout(database->handle_, 10'000);
  if (auto made = database->run(schema); !made) return within(path.string(), made.error());
  return database;
}

Database::~Database() { sqlite3_close(handle_); }

std::unexpected<Error> Database::error(std::string_view doing) const {
  const int code = sqlite3_errcode(handle_);
  const bool corrupt = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  return fail(corrupt ? Code::kCorrupt : Code::kIo, "{}, {}: {}", what_, doing, sqlite3_errmsg(handle_));
}

Result<void> Database::run(const char* sql) const {
  if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error("writing");
  return {};
}

Result<void> Database::transaction(const std::function<Result<void>()>& body) const {
  TRY(run("BEGIN IMMEDIATE"));
  auto done = body();
  if (done) done = run("COMMIT");
  if (!done) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
  return done;
}

int64_t Database::last_row() const { return sqlite3_last_insert_rowid(handle_); }
int64_t Database::changes() const { return sqlite3_changes64(handle_); }

Database::Statement::Statement(const Database& database, const std::string& sql) : database_(database) {
  sqlite3_prepare_v2(database.handle_, sql.c_str(), -1, &statement_, nullptr);
}
Database::Statement::~Statement() { sqlite3_finalize(statement_); }

Database::Statement& Database::Statement::bind(std::string_view text) {
  sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}
Database::Statement& Database::Statement::bind(int64_t value) {
  sqlite3_bind_int64(statement_, ++bound_, value);
  return *this;
}
Database::Statement& Database::Statement::bind(double value) {
  sqlite3_bind_double(statement_, ++bound_, value);
  return *this;
}
Database::Statement& Database::Statement::bind(std::span<const std::byte> blob) {
  sqlite3_bind_blob64(statement_, ++bound_, blob.data(), blob.size(), SQLITE_TRANSIENT);
  return *this;
}

Result<bool> Database::Statement::step() {
  const int code = statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_.error("reading or writing");
}
Result<void> Database::Statement::finish() {
  TRY(step());
  return {};
}
void Database::Statement::reset() {
  sqlite3_reset(statement_);
  bound_ = 0;
}

std::string Database::Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return data == nullptr ? "" : std::string(data, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
}
int64_t Database::Statement::number(int column) const { return sqlite3_column_int64(statement_, column); }
double Database::Statement::real(int column) const { return sqlite3_column_double(statement_, column); }
std::span<const std::byte> Database::Statement::blob(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

}  // namespace hearth
