#include "gateway/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/limits.h"

namespace hearth::gateway {

struct ConfigTable::Node {
  std::shared_ptr<const toml::table> root;  // keeps `table` alive
  const toml::table* table = nullptr;       // null: it is not there, so everything has its fallback
  std::string file;
  uint32_t line = 1;
  mutable std::set<std::string, std::less<>> asked{};

  const toml::node* find(std::string_view key) const {
    asked.emplace(key);
    return table == nullptr ? nullptr : table->get(key);
  }
  std::shared_ptr<const Node> child(const toml::table* found, uint32_t at) const {
    return std::make_shared<const Node>(Node{root, found, file, at});
  }
  // The error of an entry: its line (the table's if it is not there), what it is, what it has to be.
  std::unexpected<Error> wrong(const toml::node* entry, std::string_view key, std::string_view what) const {
    const uint32_t at = entry != nullptr ? entry->source().begin.line : line;
    return fail(Code::kInvalidArgument, "{}:{}: {}{}{}", file, at, key, key.empty() ? "" : ": ", what);
  }
};

namespace {

constexpr int64_t kLongestMs = int64_t{3650} * 24 * 3600 * 1000;

std::string_view kind(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    default:
      return "a date or time";
  }
}

// How many letters differ (Levenshtein), for "did you mean".
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 0; i < a.size(); i++) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); j++) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

std::optional<std::chrono::milliseconds> duration_of(std::string_view text) {
  double count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || !(count >= 0)) return std::nullopt;
  const std::string_view unit = text.substr(end - text.data());
  const double ms = unit == "ms"  ? 1
                    : unit == "s" ? 1e3
                    : unit == "m" ? 60e3
                    : unit == "h" ? 3600e3
                    : unit == "d" ? 86400e3
                                  : 0;
  if (ms == 0 || !(count * ms <= static_cast<double>(kLongestMs))) return std::nullopt;
  return std::chrono::milliseconds(std::llround(count * ms));
}

}  // namespace

Result<ConfigTable> ConfigTable::parse(std::string_view text, std::string_view file_name) {
  if (text.size() > limits::kGatewayConfigBytes)
    return fail(Code::kLimit, "{}: {} bytes, at most {}: split it into several gateways", file_name, text.size(),
                limits::kGatewayConfigBytes);
  toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return fail(Code::kMalformed, "{}:{}:{}: {}", file_name, error.source().begin.line, error.source().begin.column,
                error.description());
  }
  auto root = std::make_shared<const toml::table>(std::move(parsed).table());
  ConfigTable table;
  table.node_ = std::make_shared<const Node>(Node{root, root.get(), std::string(file_name)});
  return table;
}

Result<std::string> ConfigTable::text(std::string_view key, std::string_view fallback) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return std::string(fallback);
  if (const auto value = found->value_exact<std::string>()) return *value;
  return node_->wrong(found, key, fmt::format("is {}, has to be a text in quotes", kind(*found)));
}

Result<std::string> ConfigTable::needed_text(std::string_view key) const {
  std::string value = TRY(text(key, ""));
  if (value.empty()) return wrong(key, fmt::format("is missing here: add {} = \"...\"", key));
  return value;
}

Result<double> ConfigTable::number(std::string_view key, double fallback, double least, double most) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return fallback;
  if (!found->is_number()) return node_->wrong(found, key, fmt::format("is {}, has to be a number", kind(*found)));
  const double value = found->value<double>().value_or(std::nan(""));
  if (!(value >= least && value <= most))
    return node_->wrong(found, key, fmt::format("is {}, has to be from {} to {}", value, least, most));
  return value;
}

Result<int64_t> ConfigTable::integer(std::string_view key, int64_t fallback, int64_t least, int64_t most) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return fallback;
  const auto value = found->value_exact<int64_t>();
  if (!value) return node_->wrong(found, key, fmt::format("is {}, has to be a whole number", kind(*found)));
  if (*value < least || *value > most)
    return node_->wrong(found, key, fmt::format("is {}, has to be from {} to {}", *value, least, most));
  return *value;
}

Result<bool> ConfigTable::flag(std::string_view key, bool fallback) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return fallback;
  if (const auto value = found->value_exact<bool>()) return *value;
  return node_->wrong(found, key, fmt::format("is {}, has to be true or false", kind(*found)));
}

Result<std::chrono::milliseconds> ConfigTable::duration(std::string_view key,
                                                        std::chrono::milliseconds fallback) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return fallback;
  if (const auto value = found->value_exact<std::string>())
    if (const auto duration = duration_of(*value)) return *duration;
  return node_->wrong(
      found, key, "has to be a time of at most ten years with its unit: \"250ms\", \"10s\", \"5m\", \"2h\", \"1d\"");
}

Result<std::optional<Value>> ConfigTable::value(std::string_view key) const {
  const toml::node* found = node_->find(key);
  if (found == nullptr) return std::nullopt;
  if (const auto flag = found->value_exact<bool>()) return Value(*flag);
  if (const auto text = found->value_exact<std::string>()) return Value(*text);
  if (const auto number = found->value<double>(); number && found->is_number() && std::isfinite(*number))
    return Value(*number);
  return node_->wrong(found, key, fmt::format("is {}, has to be true, false, a finite number or a text", kind(*found)));
}

Result<std::vector<std::string>> ConfigTable::texts(std::string_view key) const {
  const toml::node* found = node_->find(key);
  std::vector<std::string> all;
  if (found == nullptr) return all;
  const toml::array* array = found->as_array();
  if (array == nullptr)
    return node_->wrong(found, key, fmt::format("is {}, has to be an array of texts: [\"a\", \"b\"]", kind(*found)));
  for (const toml::node& element : *array) {
    const auto text = element.value_exact<std::string>();
    if (!text) return node_->wrong(&element, key, fmt::format("holds {}, has to hold texts only", kind(element)));
    all.push_back(*text);
  }
  return all;
}

bool ConfigTable::has(std::string_view key) const { return node_->find(key) != nullptr; }

Result<ConfigTable> ConfigTable::table(std::string_view key) const {
  const toml::node* found = node_->find(key);
  if (found != nullptr && !found->is_table())
    return node_->wrong(found, key, fmt::format("is {}, has to be a table: [{}]", kind(*found), key));
  ConfigTable child;
  child.node_ = found == nullptr ? node_->child(nullptr, node_->line)
                                 : node_->child(found->as_table(), found->source().begin.line);
  return child;
}

Result<std::vector<ConfigTable>> ConfigTable::tables(std::string_view key) const {
  const toml::node* found = node_->find(key);
  std::vector<ConfigTable> all;
  if (found == nullptr) return all;
  const toml::array* array = found->as_array();
  if (array == nullptr)
    return node_->wrong(found, key, fmt::format("is {}, has to be an array of tables: [[{}]]", kind(*found), key));
  for (const toml::node& element : *array) {
    if (!element.is_table())
      return node_->wrong(&element, key,
                          fmt::format("holds {}, has to be an array of tables: [[{}]]", kind(element), key));
    all.emplace_back().node_ = node_->child(element.as_table(), element.source().begin.line);
  }
  return all;
}

std::vector<std::string> ConfigTable::keys() const {
  std::vector<std::string> all;
  if (node_->table != nullptr)
    for (const auto& [key, value] : *node_->table) all.emplace_back(key.str());
  return all;
}

Result<> ConfigTable::finish() const {
  if (node_->table == nullptr) return {};
  const toml::node* first = nullptr;
  std::string_view name;
  for (const auto& [key, value] : *node_->table) {
    if (node_->asked.contains(key.str())) continue;
    if (first != nullptr && first->source().begin.line <= value.source().begin.line) continue;
    first = &value;
    name = key.str();
  }
  if (first == nullptr) return {};
  std::string_view nearest;
  size_t least = name.size() / 3 + 2;
  for (const std::string& asked : node_->asked)
    if (const size_t now = distance(name, asked); now < least) least = now, nearest = asked;
  std::string remedy = "nothing reads it: remove it";
  if (!nearest.empty()) remedy = fmt::format("nothing reads it: did you mean {}?", nearest);
  return node_->wrong(first, name, remedy);
}

std::unexpected<Error> ConfigTable::wrong(std::string_view key, std::string_view what) const {
  const toml::node* entry = node_->table == nullptr || key.empty() ? nullptr : node_->table->get(key);
  return node_->wrong(entry, key, what);
}

}  // namespace hearth::gateway
