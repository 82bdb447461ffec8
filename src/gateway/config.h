// TOML with errors that name the line: a table whose entries are taken one by one; what nobody took is an error.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/signal.h"

namespace hearth::gateway {

class ConfigTable {
 public:
  ConfigTable() = default;  // holds nothing: only to be assigned to
  // kMalformed with line and column, kLimit over limits::kGatewayConfigBytes.
  static Result<ConfigTable> parse(std::string_view text, std::string_view file_name);

  // Of each kind: the entry, or `fallback`; a wrong type or a value outside its bounds is an error with the line and the remedy.
  Result<std::string> text(std::string_view key, std::string_view fallback) const;
  Result<std::string> needed_text(std::string_view key) const;
  Result<double> number(std::string_view key, double fallback, double least, double most) const;
  Result<int64_t> integer(std::string_view key, int64_t fallback, int64_t least, int64_t most) const;
  Result<bool> flag(std::string_view key, bool fallback) const;
  Result<std::chrono::milliseconds> duration(std::string_view key,
                                             std::chrono::milliseconds fallback) const;  // "250ms", "10s", "5m", "2h"
  Result<std::optional<Value>> value(std::string_view key) const;  // true, false, a finite number or a text
  Result<std::vector<std::string>> texts(std::string_view key) const;
  bool has(std::string_view key) const;
  Result<ConfigTable> table(std::string_view key) const;                // empty if it is not there
  Result<std::vector<ConfigTable>> tables(std::string_view key) const;  // [[key]]
  std::vector<std::string> keys() const;

  // An error for the first entry that nobody asked for, with the nearest name that somebody did.
  Result<> finish() const;
  // An error at this table's line, or at an entry's.
  std::unexpected<Error> wrong(std::string_view key, std::string_view what) const;

 private:
  struct Node;
  std::shared_ptr<const Node> node_;
};

}  // namespace hearth::gateway
