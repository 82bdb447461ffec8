#include "gateway/profile.h"

#include <array>
#include <cmath>
#include <set>

#include "base/limits.h"
#include "base/mapped_file.h"

namespace hearth::gateway {
namespace {

constexpr std::array<std::string_view, 3> kTypes = {"bool", "number", "text"};
constexpr std::array<std::string_view, 4> kActions = {"inform", "low", "confirm", "never"};
constexpr std::array<std::string_view, 3> kRecords = {"A", "B", "C"};
constexpr double kAny = std::numeric_limits<double>::infinity();

// An entry that is one of a few words.
template <typename Enum, size_t n>
Result<Enum> choice(const ConfigTable& table, std::string_view key, const std::array<std::string_view, n>& names,
                    Enum fallback) {
  const std::string text = TRY(table.text(key, names[static_cast<size_t>(fallback)]));
  std::string all;
  for (size_t i = 0; i < n; i++) {
    if (text == names[i]) return static_cast<Enum>(i);
    all += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", names[i]);
  }
  return table.wrong(key, fmt::format("is \"{}\", has to be one of {}", text, all));
}

bool good_name(std::string_view name) {
  if (name.empty() || name.size() > limits::kGatewayNameBytes || name.front() == '/' || name.back() == '/')
    return false;
  for (size_t i = 0; i < name.size(); i++) {
    const char c = name[i];
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!letter && (c != '/' || name[i - 1] == '/')) return false;
  }
  return true;
}

Result<WriteLimits> read_write(const Signal& signal, const ConfigTable& table) {
  WriteLimits write;
  write.action_class = TRY(choice(table, "action", kActions, ActionClass::kConfirm));
  write.least_interval = TRY(table.duration("least_interval", std::chrono::milliseconds(0)));
  if (signal.type == SignalType::kNumber) {
    if (!table.has("min") || !table.has("max"))
      return table.wrong("", fmt::format("{} can be written only with limits: add min and max here", signal.name));
    write.min = TRY(table.number("min", 0, std::max(signal.min, -1e300), std::min(signal.max, 1e300)));
    write.max = TRY(table.number("max", 0, write.min, std::min(signal.max, 1e300)));
    write.step = TRY(table.number("step", 0, 0, 1e300));
    write.most_change = TRY(table.number("most_change", 0, 0, 1e300));
  } else if (signal.type == SignalType::kText) {
    write.allowed = TRY(table.texts("allowed"));
    if (write.allowed.empty())
      return table.wrong("allowed", "a text can be written only if every value is listed: allowed = [\"a\", \"b\"]");
  } else {
    write.max = 1;
  }
  if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
  return write;
}

Result<Signal> read_signal(const ConfigTable& table) {
  Signal signal;
  signal.name = TRY(table.needed_text("name"));
  if (!good_name(signal.name))
    return table.wrong("name",
                       fmt::format("has to be letters, digits, _ and -, with single / between parts, at most {} in all",
                                   limits::kGatewayNameBytes));
  signal.label = TRY(table.text("label", signal.name));
  signal.type = TRY(choice(table, "type", kTypes, SignalType::kNumber));
  signal.unit = TRY(table.text("unit", ""));
  if (signal.type == SignalType::kNumber) {
    signal.min = TRY(table.number("min", -kAny, -1e300, 1e300));
    signal.max = TRY(table.number("max", kAny, std::max(signal.min, -1e300), 1e300));
    signal.normal_min = TRY(table.number("normal_min", -kAny, -1e300, 1e300));
    signal.normal_max = TRY(table.number("normal_max", kAny, std::max(signal.normal_min, -1e300), 1e300));
  }
  signal.max_age = TRY(table.duration("max_age", std::chrono::milliseconds(0)));
  signal.record_class = TRY(choice(table, "class", kRecords, RecordClass::kB));
  if (table.has("write")) {
    const ConfigTable write = TRY(table.table("write"));
    signal.write = TRY(read_write(signal, write));
  }
  if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
  return signal;
}

Result<Profile::Part> read_adapter(const ConfigTable& table, std::span<const Signal> signals) {
  Profile::Part part;
  part.type = TRY(table.needed_text("type"));
  part.name = TRY(table.text("name", part.type));
  std::string all;
  for (const AdapterKind& kind : adapter_kinds()) {
    all += fmt::format("{}\"{}\"", all.empty() ? "" : ", ", kind.name);
    if (kind.name != part.type) continue;
    part.adapter = TRY(kind.make(table, signals));
    if (auto finished = table.finish(); !finished) return std::unexpected(finished.error());
    return part;
  }
  return table.wrong("type", fmt::format("is \"{}\", has to be one of {}", part.type, all));
}

}  // namespace

SignalNames::SignalNames(std::span<const Signal> signals) {
  for (size_t i = 0; i < signals.size(); i++) ids_.emplace(signals[i].name, static_cast<SignalId>(i));
}

std::optional<SignalId> SignalNames::find(std::string_view name) const {
  const auto found = ids_.find(name);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

Result<SignalId> SignalNames::named(const ConfigTable& table, std::string_view key) const {
  const std::string name = TRY(table.needed_text(key));
  if (const auto id = find(name)) return *id;
  return table.wrong(
      key, fmt::format("no signal is called {}: add [[signal]] name = \"{}\", or correct it here", name, name));
}

Result<std::vector<SignalId>> SignalNames::listed(const ConfigTable& table, std::string_view key) const {
  std::vector<SignalId> all;
  const std::vector<std::string> names = TRY(table.texts(key));
  for (const std::string& name : names) {
    if (name.ends_with('*')) {
      const std::string_view start = std::string_view(name).substr(0, name.size() - 1);
      for (auto at = ids_.lower_bound(start); at != ids_.end() && at->first.starts_with(start); ++at)
        all.push_back(at->second);
    } else if (const auto id = find(name)) {
      all.push_back(*id);
    } else {
      return table.wrong(
          key, fmt::format("no signal is called {}: add [[signal]] name = \"{}\", or correct it here", name, name));
    }
  }
  return all;
}

Result<Profile> Profile::parse(std::string_view text, std::string_view file_name) {
  Profile profile;
  profile.root = TRY(ConfigTable::parse(text, file_name));
  std::set<std::string, std::less<>> names;
  const std::vector<ConfigTable> signal_tables = TRY(profile.root.tables("signal"));
  if (signal_tables.size() > limits::kGatewaySignals)
    return fail(Code::kLimit, "{}: {} signals, at most {}: use several gateways", file_name, signal_tables.size(),
                limits::kGatewaySignals);
  for (const ConfigTable& table : signal_tables) {
    Signal signal = TRY(read_signal(table));
    if (!names.insert(signal.name).second)
      return table.wrong("name", fmt::format("{} is there twice: names have to differ", signal.name));
    profile.signals.push_back(std::move(signal));
  }
  names.clear();
  const std::vector<ConfigTable> adapter_tables = TRY(profile.root.tables("adapter"));
  for (const ConfigTable& table : adapter_tables) {
    Part part = TRY(read_adapter(table, profile.signals));
    if (!names.insert(part.name).second)
      return table.wrong("name", fmt::format("{} is there twice: give each [[adapter]] a name of its own", part.name));
    profile.adapters.push_back(std::move(part));
  }
  return profile;
}

Result<Profile> Profile::load(const std::filesystem::path& file) {
  const std::string text = TRY(read_file(file, limits::kGatewayConfigBytes));
  return parse(text, file.string());
}

std::string_view name_of(SignalType type) { return kTypes[static_cast<size_t>(type)]; }
std::string_view name_of(ActionClass action_class) { return kActions[static_cast<size_t>(action_class)]; }
std::string_view name_of(RecordClass record_class) { return kRecords[static_cast<size_t>(record_class)]; }

}  // namespace hearth::gateway
