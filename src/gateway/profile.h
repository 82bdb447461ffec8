// What a site has, read from one TOML file: its signals and the adapters they come from. docs/gateway-profiles.md describes it for people.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/adapter.h"

namespace hearth::gateway {

// Finds signals by name.
class SignalNames {
 public:
  explicit SignalNames(std::span<const Signal> signals);
  [[nodiscard]] std::optional<SignalId> find(std::string_view name) const;
  // The one that an entry of a table names (needed_text); an error at its line if there is none.
  [[nodiscard]] Result<SignalId> named(const ConfigTable& table, std::string_view key) const;
  // Those of a list, in which "pump1/*" is all that begin with "pump1/" and "*" every one.
  [[nodiscard]] Result<std::vector<SignalId>> listed(const ConfigTable& table, std::string_view key) const;

 private:
  std::map<std::string, SignalId, std::less<>> ids_;
};

// Immutable once parsed. A new file is parsed whole, adapters made and every entry checked, before anything of the old one stops:
// what has a mistake changes nothing.
struct Profile {
  struct Part {
    std::string name, type;
    std::unique_ptr<Adapter> adapter;  // not started
  };
  std::vector<Signal> signals;
  std::vector<Part> adapters;
  ConfigTable root;  // for those who read other tables (rules, store, ...); the last of them calls root.finish()

  static Result<Profile> parse(std::string_view text, std::string_view file_name);
  static Result<Profile> load(const std::filesystem::path& file);
};

// The names a profile uses, and the way back (for pages and the audit).
std::string_view name_of(SignalType type);
std::string_view name_of(ActionClass action_class);
std::string_view name_of(RecordClass record_class);

}  // namespace hearth::gateway
