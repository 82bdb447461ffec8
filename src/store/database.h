// A SQLite database and its statements, errors as values. SQLite's own header shows in database.cc only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hearth {

// Thread rule: one thread at a time; whoever owns it locks.
class Database {
 public:
  // Makes the file (only its owner may read it) if it is missing and runs `schema`. `what` names it in messages: "the journal of
  // batches". kCorrupt if it is no database, else kIo, with what SQLite says.
  static Result<std::unique_ptr<Database>> open(const std::filesystem::path& path, std::string_view what,
                                                const char* schema);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  [[nodiscard]] std::unexpected<Error> error(std::string_view doing) const;
  Result<void> run(const char* sql) const;
  // Everything that `body` does, or nothing.
  Result<void> transaction(const std::function<Result<void>()>& body) const;
  [[nodiscard]] int64_t last_row() const;  // that was inserted
  [[nodiscard]] int64_t changes() const;   // rows of the last statement

  class Statement {
   public:
    Statement(const Database& database, const std::string& sql);
    ~Statement();
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;
    // Values of the places in their order. Texts and blobs are copied.
    Statement& bind(std::string_view text);
    Statement& bind(int64_t value);
    Statement& bind(double value);
    Statement& bind(std::span<const std::byte> blob);
    // One row more; false at the end.
    Result<bool> step();
    Result<void> finish();  // for statements without rows
    void reset();           // to bind and step anew

    [[nodiscard]] std::string text(int column) const;
    [[nodiscard]] int64_t number(int column) const;
    [[nodiscard]] double real(int column) const;
    [[nodiscard]] std::span<const std::byte> blob(int column) const;

   private:
    const Database& database_;
    sqlite3_stmt* statement_ = nullptr;
    int bound_ = 0;
  };

 private:
  explicit Database(std::string_view what) : what_(what) {}
  sqlite3* handle_ = nullptr;
  std::string what_;
};

}  // namespace hearth
