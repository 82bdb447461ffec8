// The keys that clients of a server show: who they are and what they may do. Kept as SHA-256 of random keys, never the keys.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

struct KeyRights {
  std::vector<std::string> models{};  // empty: all
  int requests_per_minute = 0;        // 0: no limit, here and below
  int64_t tokens_per_minute = 0;      // of prompts and answers
  int concurrent = 0;
  std::string class_max = "realtime";  // the highest class of request: realtime, interactive or batch
  bool admin = false;                  // may also pull and delete models, and read metrics
};

struct KeyEntry {
  std::string name;  // unique; letters, digits, '-', '_', '.'; it stands in logs
  std::string sha256;
  std::string created;  // UTC, as 2026-01-31T12:00:00Z
  KeyRights rights;
};

// A snapshot of the file; reading it again makes another. Immutable but for add() and revoke(), which write the file first
// (whole or not at all, mode 0600).
class KeyRing {
 public:
  // A file that is not there is an empty ring. kMalformed naming the entry, and then nothing of it is used.
  static Result<KeyRing> open(std::filesystem::path file);

  // A fresh key of 256 random bits ("hearth-" and 64 hex digits), which nobody can tell again. kInvalidArgument: a name of another
  // form, or one that is taken.
  Result<std::string> add(std::string_view name, KeyRights rights);
  Result<void> revoke(std::string_view name);

  // The entry of a key. All entries are compared, each whole: time tells nothing.
  [[nodiscard]] const KeyEntry* find(std::string_view key) const;
  [[nodiscard]] const std::vector<KeyEntry>& entries() const { return entries_; }

 private:
  explicit KeyRing(std::filesystem::path file) : file_(std::move(file)) {}
  Result<void> write(std::vector<KeyEntry> entries);

  std::filesystem::path file_;
  std::vector<KeyEntry> entries_;
};

}  // namespace hearth
